"""Pull requests of several repositories are told apart by the repository; what was known of them is found again by its mark."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table anew."""
    op.drop_table("pulls")
    op.create_table(
        "pulls",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("head", "base", "body", "state", "comment", "shown", "at")),
    )
