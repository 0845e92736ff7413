"""The list, once a day, of drift that nobody has dealt with. Pure but for ``owe_digest``, which puts it into the outbox."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from reconciler.daemon.incidents import spell
from reconciler.notify import Notice
from reconciler.state import Owed, Store, owe

LONG = timedelta(hours=24)
MOST = 9


def digest(drifts: Iterable[Mapping[str, Any]], now: datetime) -> Notice | None:
    """List drift (rows of ``Store.drifts``) that is older than a day, the oldest first; None when there is none."""
    old = sorted((row for row in drifts if now - _time(row) >= LONG), key=_time)
    if not old:
        return None
    stacks = sorted({str(row["stack"]) for row in old})
    lines = [_line(row, now) for row in old]
    shown = (*lines[:MOST], *([f"and {len(lines) - MOST} more"] if len(lines) > MOST else []))
    title = f"drift older than a day in {len(old)} resource{'' if len(old) == 1 else 's'}"
    return Notice(title, "warning", ", ".join(stacks), shown, (f"{now:%Y-%m-%d}",), key="digest")


def _line(row: Mapping[str, Any], now: datetime) -> str:
    words = [f"{row['stack']}: {row['resource']}, {row['state']} for {spell(now - _time(row))}", row["reason"], row["evidence"]]
    return "; ".join(str(word) for word in words if word)


def _time(row: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(row["onset"])


def owe_digest(store: Store, hour: int | None, now: datetime) -> None:
    """Owe today's list from ``hour`` (UTC) on; the outbox holds it once, whoever asks how often."""
    if hour is None or now.hour < hour:
        return
    notice = digest(store.drifts(), now)
    if notice is not None:
        with store.transaction() as connection:
            owe(connection, Owed(f"digest:{now:%Y-%m-%d}", asdict(notice)), now.isoformat())
