"""Which right a call needs, in the words of Kubernetes' access rules. Pure."""

VERBS = {"PATCH": "patch", "POST": "create", "PUT": "update", "DELETE": "delete"}


def right_of(method: str, path: str, *, watch: bool = False) -> str:
    """Name verb, resource and namespace of a call, e.g. ``list secrets in namespace mail``; empty for a path that is no resource."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"]:
        group, rest = "", parts[2:]
    elif parts[:1] == ["apis"]:
        group, rest = (parts[1] if len(parts) > 1 else ""), parts[3:]
    else:
        return ""
    if not rest:
        return ""
    where = "the whole cluster"
    if rest[0] == "namespaces" and len(rest) > 2:
        where, rest = f"namespace {rest[1]}", rest[2:]
    plural = f"{rest[0]}.{group}" if group else rest[0]
    if len(rest) > 2:
        plural += f"/{rest[2]}"
    verb = "watch" if watch else VERBS.get(method) or ("get" if len(rest) > 1 else "list")
    return f"{verb} {plural} in {where}"
