"""Differences that are meant: fields which something in the cluster moves by design, and which an apply therefore leaves out. Pure.

- A field that a controller set through the ``scale`` subresource is that controller's: an autoscaler's replicas are neither drift nor
  written. ``kubectl scale`` is a person, and what a person changed is drift.
- The size of a PersistentVolumeClaim is a floor: what something else has grown beyond it stays, because no volume shrinks.

Neither holds for an object with ``reconciler/force: "true"``.
"""

import re
from decimal import Decimal

from reconciler.resource import JSONObject, get, join_pointer
from reconciler_k8s.ownership import Wish, field_manager, paths_of

STORAGE = "/spec/resources/requests/storage"
STORAGE_FIELD = ("f:spec", "f:resources", "f:requests", "f:storage")
_QUANTITY = re.compile(r"([+-]?[0-9.]+)(?:([eE][+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE]))?\Z")
_POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def quantity(text: object) -> Decimal:
    """Read a Kubernetes quantity, e.g. ``500m`` or ``10Gi``. Raises ValueError when it is none."""
    match = _QUANTITY.match(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is not a quantity")
    number = Decimal(match[1] + (match[2] or ""))
    suffix = match[3] or ""
    if suffix.endswith("i"):
        return number * (1 << 10 * ("KMGTPE".index(suffix[0]) + 1))
    return number.scaleb(_POWERS.get(suffix, 0))


def left_alone(wish: Wish, owner: str, metadata: JSONObject, whole: JSONObject | None) -> dict[str, str]:
    """Map each wanted field (JSON pointer) that this apply leaves out to the reason."""
    if wish.spec.force:
        return {}
    found = {}
    for entry in metadata.get("managedFields") or ():
        manager = str(entry.get("manager", ""))
        if manager == field_manager(owner):
            continue
        if entry.get("subresource") == "scale" and not manager.startswith("kubectl"):
            for path in paths_of(entry.get("fieldsV1") or {}, members=False):
                found[join_pointer(tuple(part[2:] for part in path))] = f"is left to {manager}, which scales it"
        elif not entry.get("subresource") and wish.spec.full_kind == "PersistentVolumeClaim" and _grown(wish, entry, whole):
            found[STORAGE] = f"is left at {get(whole, STORAGE)}, to which {manager} has grown it"
    return {path: why for path, why in found.items() if get(wish.spec.manifest, path) is not None}


def said(left: dict[str, str]) -> tuple[str, ...]:
    """Give one remark for each field that is left out."""
    return tuple(f"{path} {why}" for path, why in sorted(left.items()))


def _grown(wish: Wish, entry: JSONObject, whole: JSONObject | None) -> bool:
    if STORAGE_FIELD not in paths_of(entry.get("fieldsV1") or {}, members=False):
        return False
    try:
        return quantity(get(whole or {}, STORAGE)) > quantity(get(wish.spec.manifest, STORAGE))
    except ValueError:
        return False
