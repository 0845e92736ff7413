"""Who declares a secret and who reads it. Names only: no value is ever known here. Pure."""

from collections.abc import Callable, Iterator

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


RULES: tuple[Callable[[MailView], Iterator[Finding]], ...] = (unused, consumers, undeclared)
