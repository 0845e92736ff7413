"""The zones of the emulated account: records, transactions, and the delay with which a listing shows them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from reconciler.resource import JSONObject
from reconciler_cloudflare.emulator.rules import Limits, Refused, check_neighbours, check_shape, normalised


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


SOMEBODY = {"id": "a" * 32, "email": "somebody@example.com", "ip": "192.0.2.99", "type": "user"}
"""Who changes records in the dashboard."""
TOKEN = {"id": "b" * 32, "email": "", "ip": "192.0.2.98", "type": "user"}
"""Who calls the API."""


@dataclass
class Zone:
    """One zone. ``stale`` is for how many seconds after a write the listing still shows what was there before.

    ``log`` is its part of the account's audit log, oldest first.
    """

    name: str
    id: str = field(default_factory=lambda: uuid4().hex)
    limits: Limits = field(default_factory=Limits)
    records: dict[str, JSONObject] = field(default_factory=dict)
    stale: float = 0.0
    status: str = "active"
    paused: bool = False
    made: str = field(default_factory=_now)
    log: list[JSONObject] = field(default_factory=list)
    _actor: tuple[JSONObject, str] = (SOMEBODY, "UI")
    _before: dict[str, JSONObject] = field(default_factory=dict)
    _written: float = float("-inf")

    def listing(self) -> list[JSONObject]:
        """Give what a listing shows now."""
        shown = self._before if time.monotonic() - self._written < self.stale else self.records
        return list(shown.values())

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make several writes one: a Refused inside undoes all of them."""
        before, logged, actor = dict(self.records), len(self.log), self._actor
        self._actor = TOKEN, "API"
        try:
            yield
        except Refused:
            self.records = before
            del self.log[logged:]
            raise
        finally:
            self._actor = actor
        self._before, self._written = before, time.monotonic()

    def get(self, id: str) -> JSONObject:
        """Give one record. Raises Refused (81044)."""
        if id not in self.records:
            raise Refused(81044, "Record does not exist.", status=404)
        return self.records[id]

    def post(self, fields: JSONObject, **extra: Any) -> JSONObject:
        """Make a record; ``extra`` sets what callers cannot, such as ``meta``."""
        if self.limits.quota is not None and len(self.records) >= self.limits.quota:
            raise Refused(81045, "Record quota exceeded.")
        record = normalised(fields, self.name, self.limits)
        check_neighbours(record, list(self.records.values()))
        now = _now()
        record = {"id": uuid4().hex, **record, "meta": {}, "created_on": now, "modified_on": now, **extra}
        self._note("rec_add", record)
        return self._keep(record, {"comment": None, "tags": []}, now)

    def patch(self, id: str, fields: JSONObject) -> JSONObject:
        """Change the fields given and keep the others."""
        old = self._writable(id)
        check_shape(fields)
        settings = {**old["settings"], **(fields.get("settings") or {})}
        return self._rewrite(old, {**old, **fields, "settings": settings})

    def put(self, id: str, fields: JSONObject) -> JSONObject:
        """Replace a record; what is not given goes back to its default."""
        return self._rewrite(self._writable(id), fields)

    def delete(self, id: str) -> JSONObject:
        """Remove a record."""
        self._note("rec_del", self._writable(id))
        del self.records[id]
        return {"id": id}

    def _writable(self, id: str) -> JSONObject:
        record = self.get(id)
        if record["meta"].get("read_only"):
            raise Refused(0, "This record is managed by Email Routing and is read only.")
        return record

    def _rewrite(self, old: JSONObject, fields: JSONObject) -> JSONObject:
        record = normalised(fields, self.name, self.limits)
        check_neighbours(record, [one for one in self.records.values() if one["id"] != old["id"]])
        now = _now()
        kept: JSONObject = {key: old[key] for key in ("id", "meta", "created_on", "comment_modified_on", "tags_modified_on") if key in old}
        self._note("rec_set", {**record, **kept})
        return self._keep({**record, **kept, "modified_on": now}, old, now)

    def _note(self, action: str, record: JSONObject) -> None:
        """Write a line of the audit log."""
        actor, interface = self._actor
        known = {key: record[key] for key in ("id", "type", "name", "content", "ttl", "proxied")}
        self.log.append(
            {
                "id": str(uuid4()),
                "action": {"info": "", "result": True, "type": action},
                "actor": actor,
                "interface": interface,
                "metadata": {**known, "zone_id": self.id, "zone_name": self.name},
                "newValue": "",
                "oldValue": "",
                "owner": {"id": "e" * 32},
                "resource": {"id": record["id"], "type": "DNS_RECORD"},
                "when": _now(),
            }
        )

    def _keep(self, record: JSONObject, old: JSONObject, now: str) -> JSONObject:
        for key in ("comment", "tags"):
            if not record[key]:
                record.pop(f"{key}_modified_on", None)
            elif record[key] != old[key]:
                record[f"{key}_modified_on"] = now
        self.records[record["id"]] = record
        return record

    def batch(self, body: JSONObject) -> JSONObject:
        """Run deletes, patches, puts and posts, in this order, all or none."""
        parts = {key: _operations(body.get(key) or [], key) for key in ("deletes", "patches", "puts", "posts")}
        size = sum(len(part) for part in parts.values())
        if size > self.limits.batch:
            raise Refused(0, f"A batch may hold at most {self.limits.batch} operations.")
        with self.transaction():
            return {
                "deletes": [self.get(one["id"]) | self.delete(one["id"]) for one in parts["deletes"]],
                "patches": [self.patch(one["id"], _without_id(one)) for one in parts["patches"]],
                "puts": [self.put(one["id"], _without_id(one)) for one in parts["puts"]],
                "posts": [self.post(one) for one in parts["posts"]],
            }


def _operations(part: object, key: str) -> list[JSONObject]:
    whole = isinstance(part, list) and all(isinstance(one, dict) and (key == "posts" or isinstance(one.get("id"), str)) for one in part)
    if not whole:
        raise Refused(0, f"{key} must be a list of records" + ("." if key == "posts" else ", each with its id."))
    return list(part) if isinstance(part, list) else []


def _without_id(fields: JSONObject) -> JSONObject:
    return {key: value for key, value in fields.items() if key != "id"}


def zone_from(name: str, seed: JSONObject) -> Zone:
    """Build a zone from a seed: its ``records`` as a create would take them, and any field of Limits; ``meta`` may be set, too."""
    known = {key: value for key, value in seed.items() if key in Limits.__dataclass_fields__}
    own = {key: seed[key] for key in ("id", "status", "paused") if key in seed}
    zone = Zone(name, **own, limits=Limits(**known))
    for record in seed.get("records", ()):
        zone.post(record, **({"meta": record["meta"]} if "meta" in record else {}))
    zone.log.clear()
    return zone
