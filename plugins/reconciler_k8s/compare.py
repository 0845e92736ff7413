"""What an apply would change: the live object beside the server's own prediction, cut down to what differs.

Pure. Both sides come from the server, so defaults and spellings are equal on both and never look like a difference.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.ownership import FINGERPRINTS, HASH, Claim, Wish

HIDDEN = "(hidden)"
VOLATILE = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
ALLOCATED = ("clusterIP", "clusterIPs", "healthCheckNodePort", "ipFamilies", "ipFamilyPolicy")


def cleaned(whole: JSONObject, wanted: JSONObject) -> JSONObject:
    """Give the object without what the server alone writes; a dry-run even invents some of that."""
    result = {key: value for key, value in whole.items() if key not in ("status", "apiVersion", "kind")}
    metadata = {key: value for key, value in (whole.get("metadata") or {}).items() if key not in VOLATILE}
    annotations = {key: value for key, value in (metadata.pop("annotations", None) or {}).items() if key not in (HASH, FINGERPRINTS)}
    result["metadata"] = {**metadata, "annotations": annotations} if annotations else metadata
    if wanted.get("kind") == "Service" and wanted.get("apiVersion") == "v1":
        result["spec"] = _service(result.get("spec") or {}, wanted.get("spec") or {})
    return result


def _service(spec: JSONObject, wanted: JSONObject) -> JSONObject:
    fixed = {(port.get("port"), port.get("protocol", "TCP")) for port in wanted.get("ports") or () if "nodePort" in port}
    result = {key: value for key, value in spec.items() if key not in ALLOCATED or key in wanted}
    if "ports" in result:
        result["ports"] = [
            port
            if (port.get("port"), port.get("protocol", "TCP")) in fixed
            else {key: value for key, value in port.items() if key != "nodePort"}
            for port in result["ports"]
        ]
    return result


def difference(before: Any, after: Any) -> tuple[Any, Any]:
    """Cut two objects down to the keys in which they differ; lists that differ stay whole, so that positions keep their meaning."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return before, after
    left: JSONObject = {}
    right: JSONObject = {}
    for key in before.keys() | after.keys():
        if key not in after:
            left[key] = before[key]
        elif key not in before:
            right[key] = after[key]
        elif before[key] != after[key]:
            left[key], right[key] = difference(before[key], after[key])
    return left, right


def projected(wanted: Any, live: Any) -> Any:
    """Give what ``live`` holds where ``wanted`` says something; for a replacement, which no dry-run can predict."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return {key: projected(value, live[key]) for key, value in wanted.items() if key in live}
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        return [projected(one, other) for one, other in zip(wanted, live, strict=True)]
    return live


def masked(live: Any, predicted: Any, stored: Mapping[str, str], known: set[str]) -> Any:
    """Give ``live`` without a single text that might be a secret: fingerprints where one is wanted, and nothing that git does not say.

    ``stored`` maps a wanted placeholder to the fingerprint that was last written there; ``known`` are the texts of the manifest.
    """
    if isinstance(predicted, str) and predicted in stored:
        return stored[predicted] if live is not None else None
    if isinstance(live, dict):
        below = predicted if isinstance(predicted, dict) else {}
        return {key: masked(value, below.get(key), stored, known) for key, value in live.items()}
    if isinstance(live, list):
        same = isinstance(predicted, list) and len(predicted) == len(live)
        return [masked(value, predicted[number] if same else None, stored, known) for number, value in enumerate(live)]
    return live if not isinstance(live, str) or live == predicted or live in known else HIDDEN


def texts(value: Any) -> Iterator[str]:
    """Yield every text in nested data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def plain_field(field: str) -> str:
    """Give a conflict's field path without the selectors of list items: ``.spec.ports[port=25].name`` -> ``spec/ports/name``."""
    result, depth = "", 0
    for char in field.lstrip("."):
        depth += (char == "[") - (char == "]")
        result += "" if depth or char == "]" else "/" if char == "." else char
    return result


def changed_by(path: str, claims: list[Claim]) -> str:
    """Name the manager that changed the field at ``path`` (names joined by slashes, list positions left out), or nothing."""
    plain = "/".join(part for part in path.split("/") if not part.isdigit())
    whole = next((claim.manager for claim in claims if claim.field.lstrip(".") == path.replace("/", ".")), "")
    return whole or next((claim.manager for claim in claims if plain_field(claim.field) == plain), "")


def stored_prints(wish: Wish, live_prints: Mapping[str, str], claims: list[Claim]) -> dict[str, str]:
    """Map each wanted placeholder to what the live object holds there, as far as fingerprints tell."""
    result = {}
    for path, print_ in wish.prints.items():
        thief = changed_by(path, claims)
        known = live_prints.get(path)
        result[f"secret:{print_}"] = f"secret:changed by {thief}" if thief else f"secret:{known}" if known is not None else HIDDEN
    return result


def secret_difference(
    wish: Wish, live: JSONObject, predicted: JSONObject, prints: Mapping[str, str], claims: list[Claim]
) -> tuple[JSONObject, JSONObject]:
    """Compare a Secret by metadata and fingerprints, without one value: ``live`` and ``predicted`` are PartialObjectMetadata."""
    before, after = difference(cleaned({"metadata": live}, {}), cleaned({"metadata": predicted}, {}))
    owned = _names(live, "f:data")
    left: JSONObject = {}
    right: JSONObject = {}
    for path, wanted in wish.prints.items():
        key = path.removeprefix("data/")
        thief = changed_by(path, claims)
        found = f"secret:changed by {thief}" if thief else _said(prints.get(path)) if key in owned else None
        if found != _said(wanted):
            right[key] = _said(wanted)
            left |= {key: found} if found is not None else {}
    left |= {path.removeprefix("data/"): _said(print_) for path, print_ in prints.items() if path not in wish.prints}
    if left or right:
        before, after = {**before, "data": left}, {**after, "data": right}
    if not before and not after and (old := (live.get("annotations") or {}).get(HASH)) != wish.hash:
        return {"metadata": {"annotations": {HASH: old}}}, {"metadata": {"annotations": {HASH: wish.hash}}}
    return before, after


def _said(print_: str | None) -> str | None:
    """A digest of a text in git is no secret's fingerprint; the difference tells a rotation from a commit."""
    return print_ if print_ is None or print_.startswith("git:") else f"secret:{print_}"


def _names(metadata: JSONObject, part: str) -> set[str]:
    """Collect the keys of one top-level map that any Apply entry owns."""
    entries = [entry.get("fieldsV1") or {} for entry in metadata.get("managedFields") or () if entry.get("operation") == "Apply"]
    return {name[2:] for fields in entries for name in fields.get(part, {}) if name != "."}


def overlaid(whole: JSONObject, patch: JSONObject) -> JSONObject:
    """Give ``whole`` after a JSON merge patch (RFC 7386)."""
    result = deepcopy(whole)
    _merge(result, patch)
    return result


def _merge(target: JSONObject, patch: JSONObject) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            _merge(target[key], value)
        else:
            target[key] = value
