"""A status knows the repository of its commit: a stack may belong to another one, which refused it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; a daemon of the version before, which still runs beside this one, leaves it empty."""
    op.add_column("statuses", sa.Column("source", sa.Text, nullable=False, server_default=""))
