"""Identity groups by name. Names are found in any case; a write states some fields and leaves the others; metadata is replaced whole."""

import uuid
from typing import Any

from reconciler.resource import JSONObject
from reconciler_vault.emulator.wire import Call, Clock, Refused, strings, unsupported


class Groups:
    """All groups of a namespace."""

    def __init__(self, clock: Clock) -> None:
        """Begin with none."""
        self._clock = clock
        self.all: dict[str, JSONObject] = {}

    def serve(self, call: Call) -> JSONObject | None:
        """Answer below ``identity/group/name``."""
        if not call.path:
            return self._list(call)
        key = call.path.lower()
        match call.verb:
            case "GET" if key in self.all:
                return {"data": dict(self.all[key])}
            case "POST" | "PUT":
                return self._write(key, call)
            case "DELETE":
                self.all.pop(key, None)
                return None
            case "GET":
                raise Refused(404)
        raise unsupported()

    def _list(self, call: Call) -> JSONObject:
        if call.verb != "LIST":
            raise unsupported()
        if not self.all:
            raise Refused(404)
        return {"data": {"keys": sorted(str(group["name"]) for group in self.all.values())}}

    def _write(self, key: str, call: Call) -> JSONObject | None:
        before, body = self.all.get(key), call.body
        group = dict(before) if before is not None else self._new(str(body.get("type") or "internal"))
        if body.get("type", group["type"]) != group["type"]:
            raise Refused(400, "group type cannot be changed")
        if group["type"] == "external" and body.get("member_entity_ids"):
            raise Refused(400, "member entities can't be set manually for external groups")
        _check(body.get("metadata") or {})
        stated: JSONObject = {name: sorted({*strings(body[name])}) for name in ("policies", "member_entity_ids") if name in body}
        stated |= {"metadata": dict(body["metadata"])} if "metadata" in body else {}
        now = self._clock.stamp()
        self.all[key] = {**group, **stated, "name": call.path, "last_update_time": now, "modify_index": group["modify_index"] + 1}
        return {"data": {"id": group["id"], "name": call.path}} if before is None else None

    def _new(self, type: str) -> JSONObject:
        if type not in ("internal", "external"):
            raise Refused(400, f'invalid group type "{type}"')
        return {
            "alias": {},
            "creation_time": self._clock.stamp(),
            "id": str(uuid.uuid4()),
            "member_entity_ids": None,
            "member_group_ids": None,
            "metadata": None,
            "modify_index": 0,
            "namespace_id": "root",
            "parent_group_ids": None,
            "policies": None,
            "type": type,
        }


def _check(metadata: dict[str, Any]) -> None:
    """Refuse what does not fit, with the status that the server has for it."""
    for key, text in metadata.items():
        if len(str(text)) > 512:
            what = f'failed to load metadata pair ("{key}", "{text}"): value is too long (limit: 512 characters)'
            raise Refused(500, f"1 error occurred:\n\t* invalid group metadata: {what}\n\n")
