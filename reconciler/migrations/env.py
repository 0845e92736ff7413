"""Runs the migrations on the connection that ``reconciler.state`` hands over; there is no offline mode."""

from alembic import context

from reconciler.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
