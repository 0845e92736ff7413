"""When a field may be taken from somebody else. Pure.

An apply is sent without force. When the server answers that other managers hold fields that we want, the rule is:

1. ``reconciler/force: "true"`` or ``reconciler/adopt: "true"`` on the object: taken.
2. The manifest is the one that we applied last: everything in it was ours then, so whoever holds a field now took it since. That is
   drift, by another applier as much as by a plain update, and is taken back. Not so from a controller that works through a
   subresource: two programs would overwrite each other for ever.
3. The manifest has changed since: nothing tells a field that is new in git from one that was lost meanwhile, and taking a field that was
   never ours might break its owner. Refused, with managers and fields named. The size of a claim is no such field: it only ever grows.
4. Fields that nobody claims by name (``before-first-apply``: their owner's record was erased) are taken.
"""

from reconciler.resource import JSONObject
from reconciler_k8s.expected import STORAGE
from reconciler_k8s.ownership import HASH, Claim, Wish

NOBODY = "before-first-apply"


def refusal(wish: Wish, metadata: JSONObject, held: list[Claim]) -> str:
    """Say why the fields in ``held`` may not be taken; empty when they may."""
    if wish.resource.policy.adopt or wish.spec.force:
        return ""
    last = str((metadata.get("annotations") or {}).get(HASH, "")).partition(".")[0]
    unchanged = last == wish.hash.partition(".")[0]
    foreign = [claim for claim in held if not _may_be_taken(claim, unchanged=unchanged)]
    if not foreign:
        return ""
    said = "; ".join(str(claim) for claim in foreign)
    return f'{wish.resource.id}: {said}; leave the field out of git, list it in reconciler/ignore, or set reconciler/force: "true"'


def _may_be_taken(claim: Claim, *, unchanged: bool) -> bool:
    if claim.subresource and not claim.manager.startswith("kubectl"):
        return False
    return unchanged or claim.manager == NOBODY or claim.field == STORAGE.replace("/", ".")
