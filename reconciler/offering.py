"""Makes what somebody wants to have in git into a change of files: live state that git is to want, or exceptions that are to last.

It writes nothing; who may see it, and as which branch, is decided elsewhere. Every change is proved by loading the stack with it. What is
live by now and is not what the person saw is left out, and said.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from reconciler.adopting import Adoption, adopt, patch
from reconciler.desired import Desired
from reconciler.engine import Engine
from reconciler.errors import ReconcilerError
from reconciler.registry import Catalog
from reconciler.resource import ResourceId, is_sealed

MOST = 20
"""So many resources are adopted together at most, because the systems are asked anew for each."""
EXCEPTIONS = "exceptions.yaml"


@dataclass(frozen=True, slots=True)
class Offer:
    """A change of files, by path, with the message of its commit.

    ``text`` is what a person can copy where nothing may be pushed: a patch, or documents. ``left`` says what is not in it, and why.
    """

    files: Mapping[str, bytes]
    message: str
    text: str
    left: tuple[str, ...] = ()


def adoption(engine: Engine, desired: Desired, stack: str, drifts: Mapping[str, Mapping[str, Any]], kinds: Catalog, today: date) -> Offer:
    """Offer that git wants what is live of some resources. ``drifts`` maps each id to what was seen of it, pointer to live value.

    Raises InputError when the stack cannot be loaded.
    """
    done: list[Adoption] = []
    left: list[str] = []
    now = desired
    for id, seen in islice(drifts.items(), MOST):
        try:
            one = adopt(engine, now, now.load(stack, kinds, today), ResourceId.parse(id), kinds)
        except (ReconcilerError, ValueError) as error:
            left.append(str(error))
            continue
        if _plain(one.found) != _plain(seen):
            left.append(f"{id}: is not as it was on the card any more; look at it again")
            continue
        left += [f"{id}: {refused.path}: {refused.reason}" for refused in one.refused]
        if one.taken:
            done.append(one)
            now = replace(now, revision=replace(now.revision, tree={**now.revision.tree, one.file: one.after}))
    left += [f"{id}: too many at once; use reconciler adopt" for id in islice(drifts, MOST, None)]
    files = {file: now.revision.tree[file] for file in dict.fromkeys(one.file for one in done)}
    text = "".join(patch(file, desired.revision.tree[file], after) for file, after in files.items())
    return Offer(files, _message(stack, done), text, tuple(left))


def _plain(values: Mapping[str, Any]) -> Any:
    """Give values as they come back from the store. A fingerprint is left out: a secret is never taken over anyway."""
    return json.loads(json.dumps({path: value for path, value in values.items() if not is_sealed(value)}, default=str))


def _message(stack: str, done: list[Adoption]) -> str:
    if len(done) == 1:
        return done[0].message
    return f"Adopt what is live of {len(done)} resources of {stack}\n\n" + "\n".join(one.message for one in done)


def lasting(desired: Desired, stack: str, documents: str, kinds: Catalog, today: date) -> Offer:
    """Offer DriftExceptions as documents at the end of the stack's exceptions. Raises InputError when the stack cannot be loaded so."""
    file = str(PurePosixPath(desired.folder, stack, EXCEPTIONS))
    before = desired.revision.tree.get(file, b"")
    end = b"" if not before or before.endswith(b"\n") else b"\n"
    after = before + end + (b"---\n" if before.strip() else b"") + documents.encode()
    tree = {**desired.revision.tree, file: after}
    replace(desired, revision=replace(desired.revision, tree=tree)).load(stack, kinds, today)
    return Offer({file: after}, f"Make what was acknowledged in {stack} last\n\nChange the end or the reason as it should be.\n", documents)
