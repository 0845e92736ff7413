"""What people acknowledged outside of git, and a row that is written to see whether the file can be."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "acknowledgements",
        sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("stack", "resource", "fields", "reason", "who", "at", "until")),
    )
    op.create_index("acknowledgements_by_stack", "acknowledgements", ["stack", "until"])
    op.create_table("beats", sa.Column("who", sa.Text, primary_key=True), sa.Column("at", sa.Text, nullable=False))
