"""From a spec to what Uptime Kuma stores, and back to the canonical form. Pure.

Only fields that the spec has are read; everything else in a row is left alone. Text columns may hold null where a person sees nothing.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

from reconciler.errors import Permanent
from reconciler.resource import Fingerprint, JSONObject, ResourceId, SecretRef
from reconciler_uptime_kuma import marks
from reconciler_uptime_kuma.dialect import CREDENTIALS, MODERN, Dialect
from reconciler_uptime_kuma.shapes import TARGETS, knows
from reconciler_uptime_kuma.spec import Monitor, Notification, canonical_extras

Reveal: TypeAlias = Callable[[SecretRef], str]

VEIL = "***"
"""Stands for a live value that may be a secret and differs from the wish."""

COLUMNS: Mapping[str, str] = {
    "title": "name",
    "type": "type",
    "hostname": "hostname",
    "port": "port",
    "url": "url",
    "method": "method",
    "keyword": "keyword",
    "json_path": "jsonPath",
    "json_path_operator": "jsonPathOperator",
    "expected_value": "expectedValue",
    "dns_resolve_type": "dns_resolve_type",
    "dns_resolve_server": "dns_resolve_server",
    "interval": "interval",
    "retry_interval": "retryInterval",
    "resend_interval": "resendInterval",
    "max_retries": "maxretries",
    "timeout": "timeout",
    "upside_down": "upsideDown",
    "accepted_statuscodes": "accepted_statuscodes",
    "push_token": "pushToken",
    "docker_container": "docker_container",
    "docker_host": "docker_host",
}
"""The column behind each field that is copied as it is."""

_TEXTS = frozenset(TARGETS) - {"port", "docker_host"} | {"title", "type"}
_OWN_CONFIG = frozenset({"name", "type", "isDefault", "applyExisting", marks.CONFIG_KEY})


def veiled(value: Any) -> bool:
    """Say whether ``value`` only stands for a secret, so that it must not be written."""
    return isinstance(value, str) and (value == VEIL or value.startswith("secret:"))


def monitor_payload(spec: Monitor, dialect: Dialect, reveal: Reveal) -> JSONObject:
    """Give the columns that ``spec`` manages. Raises Permanent when it uses a column that this dialect has not."""
    payload: JSONObject = {column: _stored(getattr(spec, field), reveal) for field, column in COLUMNS.items()}
    known = knows(spec.type)
    for field in TARGETS:
        if field not in known and field != "method":
            payload[COLUMNS[field]] = None
    if not (dialect.modern and "json_path_operator" in known):
        del payload["jsonPathOperator"]
    for key, value in spec.extra.items():
        if key not in dialect.defaults:
            raise Permanent(f"extra.{key} needs Uptime Kuma 2.x, and this one is {dialect.name}; leave it out")
        payload[key] = _stored(value, reveal)
    return {key: value for key, value in payload.items() if not veiled(value)}


def _stored(value: Any, reveal: Reveal) -> Any:
    if isinstance(value, SecretRef):
        return reveal(value)
    return value


def monitor_secrets(spec: Monitor, fingerprint: Fingerprint) -> dict[str, str]:
    """Give the fingerprints of every secret in ``spec``, by field or extra column."""
    return _fingerprints({"push_token": spec.push_token, **spec.extra}, fingerprint)


def _fingerprints(values: Mapping[str, Any], fingerprint: Fingerprint) -> dict[str, str]:
    """Take fingerprints; one that stands for a value left alone is kept as it is."""
    found = {key: fingerprint(value) for key, value in values.items() if isinstance(value, SecretRef)}
    kept = {key: value.removeprefix("secret:") for key, value in values.items() if isinstance(value, str) and value.startswith("secret:")}
    return found | kept


def monitor_live(
    row: JSONObject, wanted: Monitor | None, tag: marks.Tag | None, links: "Links", copies: Collection[int] = ()
) -> JSONObject:
    """Give the canonical form of a live monitor, with exactly the keys of ``Monitor.canonical``.

    Fields that its type does not know appear with their defaults, and extra columns and tags only when they are ours or wanted.
    ``copies`` are further monitors with the same mark; they count only where git says that they are to go.
    """
    text, _ = marks.split(row.get("description"))
    secrets = tag.secrets if tag is not None else {}
    live: JSONObject = {field: _canonical(field, row.get(column)) for field, column in COLUMNS.items()}
    known = knows(str(row.get("type")))
    for field in set(TARGETS) - known | ({"json_path_operator"} if "jsonPathOperator" not in row else set()):
        live[field] = Monitor.model_fields[field].default
    if "push_token" in known:
        live["push_token"] = shown(row.get("pushToken") or "", wanted.push_token if wanted else None, secrets.get("push_token"))
    live["accepted_statuscodes"] = sorted({str(code) for code in row.get("accepted_statuscodes") or ()})
    live["parent"] = links.parent(row.get("parent"))
    live["notifications"] = sorted(links.notification(id) for id, on in (row.get("notificationIDList") or {}).items() if on)
    live["description"] = text
    if "docker_host" in known:
        live["docker_host"] = links.docker(row.get("docker_host"))
    live["active"] = (wanted.active if wanted else True) if row.get("forceInactive") else bool(row.get("active"))
    live["extra"] = _live_extra(row, wanted, tag, secrets)
    live["tags"] = live_tags(row, {*(wanted.tags if wanted else ()), *(tag.labels if tag is not None else ())})
    live["id"] = row["id"] if wanted is not None and wanted.id is not None else None
    live["push_base"] = wanted.push_base if wanted is not None else ""
    live["copies"] = wanted.copies if wanted is not None else "report"
    if copies and live["copies"] == "delete":
        live["copies"] = ", ".join(str(id) for id in copies)
    return live


def live_tags(row: JSONObject, names: Collection[str]) -> dict[str, str]:
    """Give the tags with these names and their values; several of one name appear as one text, so that they differ from any wish."""
    found: dict[str, list[str]] = {}
    for one in row.get("tags") or ():
        if one.get("name") in names:
            found.setdefault(one["name"], []).append(str(one.get("value") or ""))
    return {name: values[0] if len(values) == 1 else f"{len(values)} times: {', '.join(sorted(values))}" for name, values in found.items()}


def _canonical(field: str, value: Any) -> Any:
    if field in _TEXTS:
        text = "" if value is None else str(value)
        return text.strip() if field in ("title", "hostname", "url") else text
    if field == "upside_down":
        return bool(value)
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _live_extra(row: JSONObject, wanted: Monitor | None, tag: marks.Tag | None, secrets: Mapping[str, str]) -> JSONObject:
    wishes = wanted.extra if wanted is not None else {}
    ours = [key for key in (tag.keys if tag is not None else ()) if key in row]
    defaults = canonical_extras(MODERN.defaults)
    live = canonical_extras({key: row.get(key) for key in sorted({*wishes, *ours})})
    live = {key: value for key, value in live.items() if key in wishes or value != defaults.get(key)}
    for key in live:
        wish = wishes.get(key)
        if key in CREDENTIALS or key in secrets or isinstance(wish, SecretRef):
            live[key] = shown(live[key], wish, secrets.get(key))
    return live


def shown(value: Any, wish: Any, stored: str | None) -> Any:
    """Show a live value that may be a secret: as its stored fingerprint, as itself only when it is what git says openly, or veiled."""
    if not value:
        return value
    if stored is not None:
        return f"secret:{stored}"
    return value if not isinstance(wish, SecretRef) and wish == value else VEIL


def resets(row: JSONObject, spec: Monitor, tag: marks.Tag | None, dialect: Dialect) -> JSONObject:
    """Give the defaults of the extra columns that were ours and are no longer wanted."""
    ours = tag.keys if tag is not None else ()
    return {key: dialect.defaults[key] for key in ours if key in row and key not in spec.extra and key in dialect.defaults}


def notification_config(spec: Notification, tag: marks.Tag, reveal: Reveal) -> JSONObject:
    """Give the object that ``addNotification`` takes; ``applyExisting`` would link it to every monitor there is."""
    values = {key: _stored(value, reveal) for key, value in spec.config.items()}
    own = {"name": spec.title, "type": spec.type, "isDefault": spec.default, "applyExisting": False, marks.CONFIG_KEY: tag.config()}
    return {key: value for key, value in values.items() if not veiled(value)} | own


def notification_secrets(spec: Notification, fingerprint: Fingerprint) -> dict[str, str]:
    """Give the fingerprints of every secret in ``spec``, by key of its config."""
    return _fingerprints(spec.config, fingerprint)


def stored_config(row: JSONObject) -> JSONObject:
    """Read the configuration of a row of ``notificationList``, which holds it as JSON text; empty when it cannot be read."""
    try:
        config = json.loads(row.get("config") or "{}")
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def notification_live(row: JSONObject, wanted: Notification | None, tag: marks.Tag | None) -> JSONObject:
    """Give the canonical form of a live notification, with exactly the keys of ``Notification.canonical``.

    Any setting may be a credential, so a value is shown only when git says the same openly.
    """
    config = stored_config(row)
    secrets = tag.secrets if tag is not None else {}
    wishes = wanted.config if wanted is not None else {}
    keys = {*wishes, *(tag.keys if tag is not None else ())} - _OWN_CONFIG
    return {
        "title": str(row.get("name") or "").strip(),
        "type": str(config.get("type") or ""),
        "config": {key: shown(config[key], wishes.get(key), secrets.get(key)) for key in sorted(keys) if key in config},
        "default": bool(row.get("isDefault")),
    }


class Links:
    """Turns the numbers that rows carry into the names that specs carry."""

    def __init__(
        self,
        owner: str,
        monitors: Collection[JSONObject],
        notifications: Collection[JSONObject],
        dockers: Collection[JSONObject] = (),
        pages: Collection[JSONObject] = (),
    ) -> None:
        """Learn the names of everything there is; an object that is not ours is called by its title."""
        self._dockers = {int(row["id"]): str(row.get("name") or "") for row in dockers}
        self._pages = {int(row["id"]): _name(page_tag(row), owner, {"id": row["id"], "name": row.get("title")}) for row in pages}
        self._monitors = {row["id"]: _name(marks.split(row.get("description"))[1], owner, row) for row in monitors}
        self._notifications = {str(row["id"]): _name(marks.of_config(stored_config(row)), owner, row) for row in notifications}

    def learn(self, id: int, name: str) -> None:
        """Take in a monitor of ours that was made since."""
        self._monitors[id] = (True, name)

    def parent(self, id: int | None) -> str:
        """Name the monitor with this number; empty for none."""
        return "" if id is None else self._monitors.get(id, (False, f"#{id}"))[1]

    def docker(self, id: int | None) -> str:
        """Name the Docker host with this number; empty for none."""
        return "" if id is None else self._dockers.get(int(id), f"#{id}")

    def page(self, id: int) -> str:
        """Name the status page with this number."""
        return self._pages.get(id, (False, f"#{id}"))[1]

    def docker_id(self, name: str, monitor: ResourceId) -> int:
        """Find the number of a Docker host. Raises Permanent when there is none, or more than one."""
        names = {id: (False, one) for id, one in self._dockers.items()}
        return int(_only(names, name, "Docker host", monitor))

    def monitor_ids(self, names: Iterable[str], asking: ResourceId) -> list[int]:
        """Find the numbers of monitors, in the order of their names. Raises Permanent like ``parent_id``."""
        return [int(_only(self._monitors, name, "Monitor", asking)) for name in names]

    def page_ids(self, names: Iterable[str], asking: ResourceId) -> list[int]:
        """Find the numbers of status pages. Raises Permanent like ``parent_id``."""
        return [int(_only(self._pages, name, "StatusPage", asking)) for name in names]

    def notification(self, id: str) -> str:
        """Name the notification with this number."""
        return self._notifications.get(id, (False, f"#{id}"))[1]

    def parent_id(self, name: str, monitor: ResourceId) -> int:
        """Find the number of the monitor called ``name``. Raises Permanent when there is none, or more than one."""
        return int(_only(self._monitors, name, "Monitor", monitor))

    def notification_ids(self, names: Collection[str], monitor: ResourceId) -> dict[str, bool]:
        """Find the numbers of notifications, in the form of a monitor's column. Raises Permanent like ``parent_id``."""
        return {str(_only(self._notifications, name, "Notification", monitor)): True for name in names}


def page_tag(row: JSONObject) -> marks.Tag | None:
    """Read the mark of a status page. One whose making was broken off has it for a title, because the first call takes no more."""
    return marks.split(row.get("customCSS"))[1] or marks.split(row.get("title"))[1]


def _name(tag: marks.Tag | None, owner: str, row: JSONObject) -> tuple[bool, str]:
    if tag is not None and tag.mark.owner == owner:
        return True, tag.mark.name
    return False, str(row.get("name") or f"#{row['id']}").strip()


def _only(names: Mapping[Any, tuple[bool, str]], wanted: str, kind: str, monitor: ResourceId) -> Any:
    """Find the number behind a name: of ours the lowest, since a later one is a copy; otherwise the only one with that title."""
    ours = [id for id, name in names.items() if name == (True, wanted)]
    found = [min(ours)] if ours else [id for id, name in names.items() if name == (False, wanted)]
    if not found:
        raise Permanent(f"{monitor}: there is no {kind} {wanted!r} in Uptime Kuma; declare it, or correct the name")
    if len(found) > 1:
        raise Permanent(f"{monitor}: {len(found)} objects of kind {kind} are called {wanted!r}; rename all but one")
    return found[0]
