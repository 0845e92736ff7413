"""The tables of the store that more than one room reads or writes. Shapes only; who writes what is said where it is written.

Times are ISO 8601 in UTC as text, empty where there is none. What a migration makes of them is in ``reconciler/migrations``.
"""

import sqlalchemy as sa

METADATA = sa.MetaData()
_text = sa.Text
RUNS = sa.Table(
    "runs",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    *(sa.Column(name, _text, nullable=False) for name in ("stack", "revision", "subject", "reason", "verdict")),
    *(sa.Column(name, _text, nullable=False) for name in ("started", "finished", "digest", "trace_id", "summary", "report")),
)
APPLIED = sa.Table(
    "applied",
    METADATA,
    sa.Column("stack", _text, primary_key=True),
    sa.Column("resource", _text, primary_key=True),
    sa.Column("digest", _text, nullable=False),
    sa.Column("before", _text, nullable=False),
    sa.Column("protect", sa.Boolean, nullable=False),
    sa.Column("revision", _text, nullable=False),
    sa.Column("run", sa.Integer, nullable=False),
)
DRIFT = sa.Table(
    "drift",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    *(sa.Column(name, _text, nullable=False) for name in ("stack", "resource", "action", "fields", "evidence")),
    *(sa.Column(name, _text, nullable=False) for name in ("state", "reason", "onset", "last_seen", "closed")),
)
APPROVALS = sa.Table(
    "approvals", METADATA, sa.Column("digest", _text, primary_key=True), *(sa.Column(name, _text, nullable=False) for name in ("who", "at"))
)
OUTBOX = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", _text, nullable=False, unique=True),
    sa.Column("payload", _text, nullable=False),
    sa.Column("created", _text, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("sent", _text, nullable=False),
)
BEATS = sa.Table("beats", METADATA, sa.Column("who", _text, primary_key=True), sa.Column("at", _text, nullable=False))
