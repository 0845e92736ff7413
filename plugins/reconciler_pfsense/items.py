"""What every list of the configuration has in common: fields, marks, items and where they stand, and edits. Pure.

Only fields that a spec owns are read and written; an item's other fields are never mentioned, so they stay as they are. Sources:
``config.inc`` and ``xmlparse.inc`` of pfSense 2.7.2 and 2.8, and ``haproxy.inc`` of the package.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from reconciler.driver import Mark
from reconciler.resource import JSONObject
from reconciler_pfsense.agent import Snapshot

ALIASES = "aliases/alias"
FORWARDS = "nat/rule"
RULES = "filter/rule"
HAPROXY = "installedpackages/haproxy"
FRONTENDS = f"{HAPROXY}/ha_backends/item"
BACKENDS = f"{HAPROXY}/ha_pools/item"

Edit: TypeAlias = JSONObject
"""One step of a transaction, in the words of ``agent.php``: where, what to set, what to take away."""

Meaning: TypeAlias = tuple[str, ...]
"""What an object of one kind is, whoever made it."""

_MARKED = re.compile(r"\[(reconciler:[^\]]+)\] ?(.*)", re.DOTALL)


def text(item: Mapping[str, Any], key: str, default: str = "") -> str:
    """Give a scalar field; an empty tag means the default."""
    value = item.get(key)
    return value if isinstance(value, str) and value else default


def number(item: Mapping[str, Any], key: str, default: int) -> Any:
    """Give a numeric field; text that is no number is given as it is, so that it shows as a difference."""
    value = text(item, key)
    return (int(value) if value.isdigit() else value) if value else default


def items(value: Any) -> list[JSONObject]:
    """Give the entries below a wrapper such as ``ha_servers``; an empty wrapper is an empty string."""
    found = value.get("item") if isinstance(value, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def split_mark(words: str) -> tuple[Mark | None, str]:
    """Take ``[mark] description`` apart."""
    found = _MARKED.fullmatch(words)
    mark = Mark.parse(found[1]) if found else None
    return (mark, found[2]) if found and mark else (None, words)


def with_mark(mark: Mark, words: str) -> str:
    """Write ``[mark] description``."""
    return f"[{mark}] {words}".strip()


def decoded(value: str) -> str:
    """Read one of the package's base64 fields; what is not base64 is garbage there, too."""
    try:
        return base64.b64decode(value, validate=True).decode("utf-8", "replace")
    except binascii.Error:
        return value


def encoded(words: str) -> str:
    """Write one of the package's base64 fields."""
    return base64.b64encode(words.encode()).decode()


@dataclass(frozen=True, slots=True)
class Found:
    """One item of a list of the configuration, where it stands, and which kind it is."""

    kind: "Kind"
    index: int
    item: JSONObject

    @property
    def mark(self) -> Mark | None:
        """Give the mark it carries."""
        return self.kind.mark(self.item)

    def edit(self, fields: Mapping[str, Any]) -> Edit:
        """Overwrite fields of this very item; None takes a field away."""
        return overwrite({"list": self.kind.path, "at": self.index, "key": self._key()}, fields)

    def delete(self) -> Edit:
        """Take this item away."""
        return {"list": self.kind.path, "at": self.index, "key": self._key(), "delete": True}

    def _key(self) -> JSONObject:
        """Give what the firewall compares before it believes the index."""
        return {key: self.item[key] for key in ("name", "descr", "associated-rule-id") if isinstance(self.item.get(key), str)}


def overwrite(edit: Edit, fields: Mapping[str, Any]) -> Edit:
    """Set fields where ``edit`` points; None takes a field away."""
    return {
        **edit,
        "set": {key: value for key, value in fields.items() if value is not None},
        "unset": [key for key, value in fields.items() if value is None],
    }


def create(path: str, key: JSONObject, fields: Mapping[str, Any]) -> Edit:
    """Add an item to the end of a list, unless one with this key is there, which then gets the fields."""
    return overwrite({"list": path, "key": key}, fields)


@dataclass(frozen=True, slots=True)
class Kind:
    """One list of the configuration as a kind of resource.

    ``means`` and ``meant`` say, of an item and of a spec, what makes two of them the same object: they are equal then.
    """

    name: str
    path: str
    mark: Callable[[JSONObject], Mark | None]
    live: Callable[[JSONObject, Snapshot], JSONObject]
    means: Callable[[JSONObject], Meaning]
    meant: Callable[[Any], Meaning]
    key: Callable[[Any, str], JSONObject]
    fields: Callable[[Any, Mark, JSONObject | None], dict[str, Any]]

    def all(self, snapshot: Snapshot) -> list[Found]:
        """Give every item of this kind, whoever made it."""
        found = (Found(self, index, item) for index, item in enumerate(snapshot.lists[self.path]) if item)
        return [one for one in found if self.path != RULES or not text(one.item, "associated-rule-id")]


def descr_mark(item: JSONObject) -> Mark | None:
    """Read the mark from the description."""
    return split_mark(text(item, "descr"))[0]


def words(item: JSONObject) -> str:
    """Give the description without its mark."""
    return split_mark(text(item, "descr"))[1]


def name_of(item: JSONObject) -> Meaning:
    """Give what an item is known by."""
    return (text(item, "name"),)


def name_in(spec: Any) -> Meaning:
    """Give what a spec names."""
    return (str(spec.name),)


def name_key(spec: Any, descr: str) -> JSONObject:
    """Find a new item by its name."""
    return {"name": spec.name}


def descr_key(spec: Any, descr: str) -> JSONObject:
    """Find a new item by its description, which holds the mark."""
    return {"descr": descr}


def flag(value: bool) -> str | None:
    """Write a flag: pfSense looks only at whether the tag is there."""
    return "" if value else None
