"""Puts a daemon together from the settings."""

from pathlib import Path

from reconciler.applying import Listener
from reconciler.compose import Workshop, git_source
from reconciler.daemon.heads import DirectoryHead, GitHead
from reconciler.daemon.loop import Daemon, Head
from reconciler.daemon.telling import outbox, routes
from reconciler.engine import silent
from reconciler.errors import SettingsError
from reconciler.settings import Settings
from reconciler.state import Store


def daemon(settings: Settings, store: Store, *, path: Path | None = None, workers: int = 1, listen: Listener = silent) -> Daemon:
    """Make a daemon that watches ``path``, or the repository of the settings. Raises SettingsError."""
    workshop = Workshop(settings)
    made = Daemon(workshop, store, _head(settings, workshop, path), outbox(settings, store, workshop.clock), listen, workers=workers)
    if settings.http.listen or settings.http.webhook_listen:
        _listen(settings, made)
    return made


def _listen(settings: Settings, made: Daemon) -> None:
    """Give the daemon its doors. A web server and its metrics are what only those who listen pay for."""
    from reconciler import telemetry
    from reconciler.daemon.http.app import doors
    from reconciler.daemon.http.metrics import Meters

    meters = Meters(made)
    telemetry.ears[:] = [meters]  # of one daemon in this process: the newest
    made.meter = meters.passed
    made.doors = doors(settings.http, made, meters, routes(made))


def _head(settings: Settings, workshop: Workshop, path: Path | None) -> Head:
    repository = settings.repository
    if path is not None:
        return DirectoryHead(path, repository.folder)
    if not repository.url:
        raise SettingsError("there is nothing to watch: set repository.url in reconciler.yaml, or give --path DIR")
    return GitHead(git_source(settings, settings.state.path.parent / "git"), repository.folder, repository.poll)
