"""What people are told and what they answer: cards, conditions, grants, presses, and what a forge was told."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _texts(*names: str) -> list["sa.Column[str]"]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "cards",
        sa.Column("id", sa.Integer, primary_key=True),
        *_texts("key", "sort", "opened", "changed", "closed", "payload", "face", "loud", "channel", "ts", "shown", "heard", "tried"),
    )
    op.create_index("cards_by_key", "cards", ["key", "closed"])
    op.create_table("conditions", sa.Column("name", sa.Text, primary_key=True), *_texts("message", "since"))
    op.create_table("grants", sa.Column("id", sa.Integer, primary_key=True), *_texts("stack", "digest", "who", "at", "used"))
    op.create_table("presses", sa.Column("key", sa.Text, primary_key=True), *_texts("who", "at", "outcome"))
    op.create_table(
        "statuses",
        sa.Column("revision", sa.Text, primary_key=True),
        sa.Column("stack", sa.Text, primary_key=True),
        *_texts("state", "description", "link", "at", "shown"),
    )
    op.create_table(
        "pulls",
        sa.Column("number", sa.Integer, primary_key=True),
        *_texts("head", "base", "body", "state", "comment", "shown", "at"),
    )
