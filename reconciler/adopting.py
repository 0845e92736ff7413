"""Turns what is live of one resource into a change of its file: the way from drift, or from what already runs, into git.

It writes nothing: an Adoption is a proposal, with what could not be taken over and why. A secret is never taken over, because it would
stand in clear; an expression is not written over unless that is asked for. Whether the result is right is not believed but planned.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import combinations, islice
from typing import Any, TypeAlias

from reconciler.desired import Desired
from reconciler.documents import Document, read
from reconciler.driver import Action, Change, FieldDiff
from reconciler.edits import END, GONE, CannotEdit, Path, edit
from reconciler.engine import Engine
from reconciler.errors import InputError, ReconcilerError
from reconciler.expressions import Expression, ExpressionError, parse
from reconciler.plan import Plan
from reconciler.registry import Catalog
from reconciler.report import by_whom
from reconciler.resource import JSONObject, ResourceId, SecretRef, get, is_sealed, join_pointer, put
from reconciler.stack import Stack
from reconciler.telltales import called, tells

HIDDEN = "(hidden)"
INEXPRESSIBLE = "cannot be expressed: "
KEYS = ("name", "containerPort", "port", "mountPath", "devicePath", "key", "host", "path", "ip", "topologyKey", "type", "id")
"""What tells the items of a list apart, in the order in which it is looked for; most are the merge keys of Kubernetes' own lists."""

MOST_GROUPS = 64
"""Groups of changes that are tried together; each is a whole load of the stack, and somebody waits for the answer."""

Step: TypeAlias = tuple[Path, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """A field that was not taken over. ``path`` is a JSON pointer into the document."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Adoption:
    """A proposal: the file before and after, the fields that were taken over, those that were not, and whose change it was.

    ``found`` is what it was made from: each pointer into the spec that differed, with the value that was live there.
    """

    id: ResourceId
    stack: str
    file: str
    before: bytes
    after: bytes
    taken: tuple[str, ...]
    refused: tuple[Refused, ...]
    evidence: str = ""
    found: Mapping[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """True when a plan after it finds no difference in this resource."""
        return not self.refused

    @property
    def patch(self) -> str:
        """Give the change as a unified diff."""
        return patch(self.file, self.before, self.after)

    @property
    def message(self) -> str:
        """Give the message of a commit with it."""
        lines = [f"Adopt what is live of {self.id}", ""]
        lines += [f"Changed {self.evidence}."] if self.evidence else []
        lines += [f"Taken over: {', '.join(self.taken)}"] if self.taken else []
        lines += [f"Not taken over: {one.path}: {one.reason}" for one in self.refused]
        return "\n".join(lines) + "\n"


def patch(file: str, before: bytes, after: bytes) -> str:
    """Give a change of a file as a unified diff."""
    old, new = (one.decode().splitlines(keepends=True) for one in (before, after))
    lines = difflib.unified_diff(old, new, f"a/{file}", f"b/{file}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def adopt(engine: Engine, desired: Desired, stack: Stack, id: ResourceId, kinds: Catalog, *, over: bool = False) -> Adoption:
    """Propose the change of a file that makes git want what is live of ``id``. ``over`` lets it write over expressions.

    Reads the systems and writes nothing. Raises ReconcilerError when there is nothing to take over or it cannot be seen.
    """
    if id not in stack.graph.resources:
        raise ReconcilerError(f"{id}: the stack {stack.name} does not declare it; see reconciler graph for what there is")
    change = _difference(engine, desired, stack, id)
    origin = stack.graph.resources[id].origin
    content = desired.revision.tree[origin.file]
    document = next(one for one in read(origin.file, content)[0] if one.line == origin.line)
    envelope = bool(kinds.plugin(id.driver).api_version)
    steps, refused = _steps(change, document, envelope=envelope, over=over)
    after, taken, impossible = _written(desired, stack, content, document, steps, kinds, engine)
    refused = [*refused, *impossible]
    if taken and (left := _left(engine, desired, stack, id, kinds, {origin.file: after}, refused)):
        refused += left
    evidence, found = by_whom(change.evidence), {one.path: one.before for one in change.diffs}
    return Adoption(id, stack.name, origin.file, content, after, tuple(taken), tuple(refused), evidence, found)


def _difference(engine: Engine, desired: Desired, stack: Stack, id: ResourceId) -> Change:
    """Find what a plan would do with the resource. Raises ReconcilerError when that is nothing that a file could say."""
    plan, _ = engine.plan(stack, desired.revision.commit)
    found = _change(plan, id)
    stuck = next((one for one in plan.stuck if one.id == id), None)
    origin = stack.graph.resources[id].origin
    if found is None and stuck is not None:
        raise ReconcilerError(f"{id}: {stuck.reason}")
    if found is None or (not found.diffs and found.action is Action.ADOPT):
        raise ReconcilerError(f"{id}: git already says what is live; there is nothing to take over")
    if found.live is None:
        raise ReconcilerError(f"{id}: does not exist in its system; if that is right, take its document out of git, at {origin}")
    return found


def _change(plan: Plan, id: ResourceId) -> Change | None:
    return next((one for one in (*plan.changes, *(held.change for held in plan.held)) if one.id == id), None)


# -- from differences to changes of the document --------------------------------------------------------------------------------


def _steps(change: Change, document: Document, *, envelope: bool, over: bool) -> tuple[list[Step], list[Refused]]:
    """List what to set or take out in the document, and what may not be."""
    live, diffs = change.live, [one for one in change.diffs if one.path != "/metadata/mark"]
    wanted = deepcopy(live)
    for one in diffs:
        put(wanted, one.path, one.after)
    below: Path = ("spec",) if envelope else ()
    written = (document.data.get("spec") or {}) if envelope else document.data
    steps: list[Step] = []
    refused: list[Refused] = []
    for path, value, old in _changes(below, written, wanted, live):
        secret, asked = change.id.kind == "Secret" and not envelope, get(wanted, _pointer(path[len(below) :]))
        reason = _forbidden(path, value, old, asked, name=called(document.data, _pointer(path)), secret=secret)
        reason = reason or ("" if over else _expression(old))
        if reason:
            refused.append(Refused(_pointer(path), reason))
        else:
            steps.append((path, GONE if value is None else escaped(value)))
    return steps, refused


def _changes(path: Path, written: Any, wanted: Any, live: Any) -> Iterator[tuple[Path, Any, Any]]:
    """Yield path, live value (None: not there) and what the file says there, for each difference between ``wanted`` and ``live``."""
    if wanted == live and isinstance(wanted, bool) is isinstance(live, bool):
        return
    if isinstance(wanted, dict) and isinstance(live, dict) and (written is None or isinstance(written, dict)):
        for key in [*wanted, *(key for key in live if key not in wanted)]:
            yield from _changes((*path, key), (written or {}).get(key), wanted.get(key), live.get(key))
    elif isinstance(wanted, list) and isinstance(live, list) and isinstance(written, list):
        yield from _list_changes(path, written, wanted, live)
    else:
        yield path, live, written


def _list_changes(path: Path, written: list[Any], wanted: list[Any], live: list[Any]) -> Iterator[tuple[Path, Any, Any]]:
    """Match the items of three lists, so that what is the same keeps its place and its comments. The last items come first."""
    name = _names(written, wanted, live)
    if name is None:
        if len(written) == len(wanted) == len(live):
            for number in range(len(live)):
                yield from _changes((*path, number), written[number], wanted[number], live[number])
        else:
            yield path, live, written
        return
    at = {name(item): number for number, item in enumerate(written)}
    now, before = {name(item): item for item in live}, {name(item): item for item in wanted}
    for key, item in before.items():
        if key in at and key in now:
            yield from _changes((*path, at[key]), written[at[key]], item, now[key])
    for key in sorted((key for key in before if key in at and key not in now), key=lambda key: -at[key]):
        yield (*path, at[key]), None, written[at[key]]
    for key in (key for key in now if key not in before):
        yield (*path, END), now[key], None


def _names(*lists: Sequence[Any]) -> Any:
    """Give a function that names the items of all lists apart, or None when there is none."""
    items = [item for one in lists for item in one]
    if all(isinstance(item, str | int | float | bool) for item in items):
        distinct = all(len(set(map(repr, one))) == len(one) for one in lists) and not any("${" in str(item) for item in items)
        return repr if distinct else None
    if not all(isinstance(item, dict) for item in items):
        return None
    for key in KEYS:
        values = [[item.get(key) for item in one] for one in lists]
        if all(isinstance(value, str | int) and "${" not in str(value) for one in values for value in one) and all(
            len(set(map(str, one))) == len(one) for one in values
        ):
            return lambda item, key=key: str(item[key])
    return None


def _forbidden(path: Path, value: Any, written: Any, wanted: Any, *, name: str, secret: bool) -> str:
    """Say why a field may never be taken over; nothing when it may."""
    if any(str(part).startswith("reconciler/") for part in path):
        return "steers the reconciler and is not read from a system"
    if secret and path[:1] in (("data",), ("stringData",)):
        return "the values of a Secret are not read; put the new one where the old one comes from"
    if is_sealed(value) or is_sealed(wanted) or HIDDEN in _texts(value) or any(_reads_secret(text) for text in _texts(written)):
        return "is a secret, which git only refers to; put the new value where the reference leads"
    if tells(name, value):
        return "looks like a secret, which may not stand in git in clear; write a ${vault(path, key)} reference"
    return ""


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return [text for item in (value.values() if isinstance(value, dict) else value) for text in _texts(item)]
    return [value] if isinstance(value, str) else [value.template] if isinstance(value, SecretRef) else []


def _expressions(text: str) -> list[Expression]:
    try:
        return [part for part in parse(text) if isinstance(part, Expression)]
    except ExpressionError:
        return []


def _reads_secret(text: str) -> bool:
    return any(one.secrets for one in _expressions(text))


def _expression(written: Any) -> str:
    """Say which expression would be written over, and what to change instead."""
    text = next((text for text in _texts(written) if _expressions(text)), "")
    if not text:
        return ""
    variables = sorted({f"vars.{name}" for one in _expressions(text) for name in re.findall(r"\bvars\.([A-Za-z_]\w*)", one.source)})
    advice = f"change {', '.join(variables)} in stack.yaml" if variables else "change what it refers to"
    return f"is written as {text[:80]}; {advice}, or have the expression replaced with --replace"


def escaped(value: Any) -> Any:
    """Write every ``${`` of a live text so that it is read as it is."""
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def _pointer(path: Path) -> str:
    return join_pointer(tuple("-" if part == END else str(part) for part in path))


# -- writing and proving ---------------------------------------------------------------------------------------------------------


def _written(
    desired: Desired, stack: Stack, content: bytes, document: Document, steps: Sequence[Step], kinds: Catalog, engine: Engine
) -> tuple[bytes, list[str], list[Refused]]:
    """Make as many of the changes as the file and the kind can bear: all at once where that goes, because some make sense only together."""

    def made(numbers: Collection[int]) -> str:
        text = content.decode()
        for number in sorted(numbers):  # the order matters: what goes out of a list goes from its end
            text = edit(text, document.index, *steps[number])
        _loaded(desired, stack, kinds, engine, {document.file: text.encode()})
        return text

    everything, faults = range(len(steps)), dict[int, str]()
    text, kept = _first_that_goes(made, [everything]) or _one_by_one(made, (), everything, faults)
    while apart := [number for number, fault in faults.items() if number not in kept and fault.startswith(INEXPRESSIBLE)]:
        found = _first_that_goes(made, ([*kept, *group] for group in _groups(apart)))
        if found is None:
            break
        text, kept = _one_by_one(made, found[1], apart, faults)
    refused = [Refused(_pointer(steps[number][0]), fault) for number, fault in faults.items() if number not in kept]
    return text.encode(), [_pointer(steps[number][0]) for number in sorted(kept)], refused


def _first_that_goes(made: Callable[[Collection[int]], str], groups: Iterable[Collection[int]]) -> tuple[str, Collection[int]] | None:
    """Give the text with the first group of changes that can be made together, and the group; None when none can."""
    for group in groups:
        with suppress(CannotEdit, InputError):
            return made(group), group
    return None


def _groups(apart: Sequence[int]) -> Iterator[Sequence[int]]:
    """Give what may make sense together of changes that make none alone: the largest groups first, and no more than can be tried."""
    sizes = range(len(apart), 1, -1)
    return islice((group for size in sizes for group in combinations(apart, size)), MOST_GROUPS)


def _one_by_one(
    made: Callable[[Collection[int]], str], begun: Collection[int], numbers: Iterable[int], faults: dict[int, str]
) -> tuple[str, Collection[int]]:
    """Make the changes one by one beside those in ``begun``, and leave out, with the reason in ``faults``, those that cannot be."""
    kept = [*begun]
    text = made(kept)
    for number in [one for one in numbers if one not in begun]:
        try:
            text = made([*kept, number])
        except CannotEdit as error:
            faults[number] = str(error)
        except InputError as error:
            faults[number] = f"{INEXPRESSIBLE}{error.problems[0].message}"
        else:
            kept.append(number)
    return text, kept


def _loaded(desired: Desired, stack: Stack, kinds: Catalog, engine: Engine, files: JSONObject) -> Stack:
    revision = replace(desired.revision, tree={**desired.revision.tree, **files})
    return replace(desired, revision=revision).load(stack.name, kinds, engine.retry.clock.now().date())


def _left(
    engine: Engine, desired: Desired, stack: Stack, id: ResourceId, kinds: Catalog, files: JSONObject, known: Collection[Refused]
) -> list[Refused]:
    """Plan with the new file: whatever still differs could not be expressed."""
    after = _loaded(desired, stack, kinds, engine, files)
    plan, _ = engine.plan(after, desired.revision.commit)
    found = _change(plan, id)
    envelope = bool(kinds.plugin(id.driver).api_version)
    diffs: Sequence[FieldDiff] = found.diffs if found is not None else ()
    paths = [f"/spec{one.path}" if envelope else one.path for one in diffs if one.path != "/metadata/mark"]
    said = [one.path for one in known]
    return [
        Refused(path, "still differs after the change; no value in git gives what is live")
        for path in paths
        if not any(path == one or path.startswith(f"{one}/") or one.startswith(f"{path}/") for one in said)
    ]
