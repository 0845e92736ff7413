"""What a request asks for, as the API server reads it off the method, the path and the query, whether it serves such a thing or not."""

from collections.abc import Mapping
from dataclasses import dataclass

VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. Without ``plural`` it is for a path that is no resource.

    ``namespace`` of a namespace itself is its own name; ``named`` is the name in the path, ``name`` also one that a selector leaves.
    """

    verb: str
    path: str
    group: str = ""
    version: str = ""
    plural: str = ""
    sub: str = ""
    namespace: str = ""
    name: str = ""
    named: str = ""

    @property
    def resource(self) -> str:
        """Give the resource with its subresource, as rules and messages name it."""
        return f"{self.plural}/{self.sub}" if self.sub else self.plural

    @property
    def qualified(self) -> str:
        """Give ``plural.group``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


def asked(method: str, path: str, query: Mapping[str, str]) -> Asked:
    """Read a request."""
    verb = VERBS.get(method, method.lower())
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return Asked(verb, path)
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in ("status", "finalize"):
            rest = rest[2:]
    named, sub = (rest[1] if len(rest) > 1 else ""), "/".join(rest[2:])
    name = named
    if not named and verb == "get":
        verb = "watch" if query.get("watch") in ("true", "1") else "list"
        name = _named(query.get("fieldSelector", ""))
    if not named and verb == "delete":
        verb = "deletecollection"
    return Asked(verb, path, group, version, rest[0], sub, namespace, name, named)


def _named(selector: str) -> str:
    """Give the one name that a field selector leaves: rights to one object cover listing just that."""
    key, _, name = selector.partition("=")
    return name.lstrip("=") if key == "metadata.name" and "," not in name else ""
