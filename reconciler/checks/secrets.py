"""Who declares a secret and who reads it, and whether what may be told of a stored value fits the rest of the stack.

No value is ever known here: only names, and the facts that were noted when a value was last read. Pure.
"""

from collections.abc import Callable, Iterator

from reconciler.checks.dkim import pair
from reconciler.checks.findings import Finding, info, warning
from reconciler.checks.view import MailView
from reconciler.resource import ResourceId


def unused(view: MailView) -> Iterator[Finding]:
    """A secret that nobody reads can only leak."""
    for (path, key), (id, wish) in sorted(view.keys.items()):
        if not wish.get("consumers") and not view.reads.get((path, key)):
            yield info("secret-unused", id, f"{path}#{key} has no consumer; name one, or take the key out")


def consumers(view: MailView) -> Iterator[Finding]:
    """A consumer that is named and gone is a secret that may go, too."""
    drivers = {id.driver for id in view.resources}
    for (path, key), (id, wish) in sorted(view.keys.items()):
        for text in wish.get("consumers") or ():
            try:
                named = ResourceId.parse(str(text))
            except ValueError:
                continue  # a word for people
            if named in view.resources and named not in view.reads.get((path, key), ()):
                yield warning("secret-consumer", id, f"{path}#{key} names {named} as a consumer, which does not read it")
            elif named.driver in drivers and named not in view.resources:
                yield warning("secret-consumer", id, f"{path}#{key} names {named} as a consumer, which this stack does not declare")


def undeclared(view: MailView) -> Iterator[Finding]:
    """A secret that is read and not declared has no shape and no owner, and its absence is found by the one who reads it."""
    paths = {path: id for (path, _), (id, _) in view.keys.items()}
    for (path, key), readers in sorted(view.reads.items()):
        if (path, key) not in view.keys:
            make = warning if path in paths else info
            where = f"; {paths[path]} declares the path without this key" if path in paths else ""
            yield make("secret-undeclared", readers[0], f"reads {path}#{key}, which this stack does not declare{where}")


def shape(view: MailView) -> Iterator[Finding]:
    """A value of the wrong shape is used by nobody; its consumers wait."""
    for (path, key), (id, _) in sorted(view.keys.items()):
        if fault := view.facts.get((path, key), {}).get("fault"):
            yield warning("secret-shape", id, f"{path}#{key} {fault}")


def public_half(view: MailView) -> Iterator[Finding]:
    """Hold the public half of a stored key against the record that publishes it; signatures by any other key fail."""
    records = {one.id: one for one in view.records}
    for (path, key), (id, wish) in sorted(view.keys.items()):
        public, place = view.facts.get((path, key), {}).get("public"), str(wish.get("published_by") or "")
        if not place:
            continue
        record = records.get(ResourceId.parse(place))
        if record is None:
            yield warning("dkim-private", id, f"{path}#{key} is published by {place}, which is no record of this stack")
        elif public:
            yield from pair(record, public, f"{path}#{key}")


RULES: tuple[Callable[[MailView], Iterator[Finding]], ...] = (unused, consumers, undeclared, shape, public_half)
