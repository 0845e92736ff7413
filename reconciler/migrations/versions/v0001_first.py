"""The first schema: runs, what was last applied, the state of each resource, drift, approvals and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _texts(*names: str) -> list["sa.Column[str]"]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer, primary_key=True),
        *_texts("stack", "revision", "subject", "reason", "verdict", "started", "finished", "digest", "trace_id", "summary", "report"),
    )
    op.create_index("runs_by_stack", "runs", ["stack", "id"])
    op.create_table(
        "applied",
        sa.Column("stack", sa.Text, primary_key=True),
        sa.Column("resource", sa.Text, primary_key=True),
        *_texts("digest", "before"),
        sa.Column("protect", sa.Boolean, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
    )
    op.create_table(
        "drift",
        sa.Column("id", sa.Integer, primary_key=True),
        *_texts("stack", "resource", "action", "fields", "evidence", "state", "reason", "onset", "last_seen", "closed"),
    )
    op.create_index("drift_by_stack", "drift", ["stack", "closed"])
    op.create_table(
        "approvals",
        sa.Column("digest", sa.Text, primary_key=True),
        *_texts("who", "at"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        *_texts("payload", "created"),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("sent", sa.Text, nullable=False),
    )
