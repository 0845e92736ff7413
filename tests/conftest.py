"""What holds for every test: a law is a law however long the machine takes over an example."""

from hypothesis import settings

settings.register_profile("project", deadline=None)
settings.load_profile("project")
