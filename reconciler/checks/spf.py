"""Sender Policy Framework (RFC 7208): one record per name, terms that can be read, and at most ten lookups in the whole tree. Pure."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reconciler.checks.findings import Finding, error, info, warning
from reconciler.checks.view import MailView, Record, is_spf

LOOKUPS = 10
"""Terms that ask the DNS, in the record and in all it includes (RFC 7208 4.6.4)."""
VOID = 2
"""Lookups that may find nothing (RFC 7208 4.6.4)."""
COUNTED = frozenset({"include", "a", "mx", "ptr", "exists", "redirect"})
VALUED = {"all": False, "include": True, "exists": True, "ip4": True, "ip6": True}
"""Whether a mechanism has a value; the others may."""
MECHANISMS = frozenset({"all", "ip4", "ip6"}) | (COUNTED - {"redirect"})

_TERM = re.compile(
    r"(?P<qualifier>[+?~-])?(?P<name>all|include|a|mx|ptr|ip4|ip6|exists)(?::(?P<value>[^\s]+?))?(?P<prefix>(?:/\d{1,3})?(?://\d{1,3})?)\Z",
    re.IGNORECASE,
)
_MODIFIER = re.compile(r"(?P<name>[a-z][a-z0-9_.-]*)=(?P<value>\S*)\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Term:
    """One mechanism or modifier; ``value`` is empty where the name itself is meant."""

    name: str
    value: str = ""
    qualifier: str = "+"


def terms(text: str) -> list[Term | str]:
    """Read a record without its version; what cannot be read stays as text."""
    return [_term(word) for word in text.split()[1:]]


def _term(word: str) -> Term | str:
    if found := _MODIFIER.match(word):
        return Term(found["name"].lower(), found["value"].rstrip(".").lower(), "")
    found = _TERM.match(word)
    if found is None or bool(found["value"]) is not VALUED.get(found["name"].lower(), bool(found["value"])):
        return word
    return Term(found["name"].lower(), (found["value"] or "").rstrip(".").lower(), found["qualifier"] or "+")


def one_record(view: MailView) -> Iterator[Finding]:
    """Two records are a permanent error for every letter, whatever they say."""
    for name, records in sorted(view.spf.items()):
        for extra in records[1:]:
            yield error("spf-one", extra.id, f"{name} has {len(records)} SPF records; receivers then use none of them; join them into one")


def syntax(view: MailView) -> Iterator[Finding]:
    """Check each record by itself."""
    for record in _records(view):
        found = terms(record.content)
        for word in found:
            if isinstance(word, str):
                yield error("spf-syntax", record.id, f"{word!r} is no SPF term; receivers refuse the whole record")
        known = [one for one in found if isinstance(one, Term)]
        yield from _end(record, known)
        if any(one.name == "ptr" for one in known):
            yield warning("spf-ptr", record.id, "ptr is slow and must not be used; name addresses or an include")


def _end(record: Record, found: list[Term]) -> Iterator[Finding]:
    """Check what happens to those whom nothing before matched."""
    last = next((number for number, one in enumerate(found) if one.name == "all"), None)
    if last is None:
        if not any(one.name == "redirect" for one in found):
            yield warning("spf-end", record.id, "has neither all nor redirect, so strangers get no answer; end it with -all or ~all")
        return
    match found[last].qualifier:
        case "+":
            yield error("spf-end", record.id, "passes everybody (+all); end it with -all or ~all")
        case "?":
            yield warning("spf-end", record.id, "says nothing about strangers (?all); end it with -all or ~all")
    ignored = [one.name for one in found[last + 1 :] if one.name in MECHANISMS or one.name == "redirect"]
    if ignored:
        yield warning("spf-end", record.id, f"{', '.join(ignored)} after all is never looked at; put it before")


def _records(view: MailView) -> Iterator[Record]:
    return (record for _, records in sorted(view.spf.items()) for record in records)


# -- the tree ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tree:
    """What is known of a record and all it includes."""

    lookups: int = 0
    void: int = 0
    unknown: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()

    def __add__(self, other: "Tree") -> "Tree":
        """Join two parts."""
        return Tree(
            self.lookups + other.lookups,
            self.void + other.void,
            (*self.unknown, *other.unknown),
            (*self.faults, *other.faults),
            (*self.terms, *other.terms),
        )


def tree(view: MailView, name: str, text: str, trail: tuple[str, ...] = ()) -> Tree:
    """Follow every include and redirect as far as their records are known."""
    trail, result = (*trail, name), Tree()
    found = [one for one in terms(text) if isinstance(one, Term)]
    ends = any(one.name == "all" for one in found)  # then a redirect is ignored
    for one in found:
        if one.name in COUNTED and not (one.name == "redirect" and ends):
            result += Tree(terms=(one,)) + _follow(view, one, trail)
        else:
            result += Tree(terms=(one,))
    return result


def _follow(view: MailView, term: Term, trail: tuple[str, ...]) -> Tree:
    """Count one term and what is behind it."""
    here = Tree(lookups=1)
    target = term.value.partition("/")[0] or trail[-1]
    if "%{" in target or term.name in ("exists", "ptr"):
        return here + (Tree(unknown=(target,)) if term.name == "redirect" or term.name == "include" else Tree())
    if term.name in ("a", "mx"):
        types = ("A", "AAAA") if term.name == "a" else ("MX",)
        answers = [view.lookup(target, type) for type in types]
        return here + Tree(void=int(all(answer == () for answer in answers)))
    if target in trail:
        return here + Tree(faults=(f"{' -> '.join((*trail, target))} is a circle",))
    answer = view.lookup(target, "TXT")
    if answer is None:
        return here + Tree(unknown=(target,))
    policies = [text for text in answer if is_spf(text)]
    if len(policies) != 1:
        return here + Tree(void=int(not answer), faults=(f"{term.name} leads to {target}, which has {len(policies) or 'no'} SPF records",))
    return here + tree(view, target, policies[0], trail)


def lookups(view: MailView) -> Iterator[Finding]:
    """Count what is known, and say when the rest is not."""
    for record in _records(view):
        found = tree(view, record.name, record.content)
        if found.lookups > LOOKUPS:
            yield error("spf-lookups", record.id, f"needs {found.lookups} of at most {LOOKUPS} lookups; receivers refuse the record")
        elif found.unknown:
            names = ", ".join(found.unknown)
            yield info("spf-lookups", record.id, f"needs {found.lookups} of at most {LOOKUPS} lookups, and those of {names}, unknown here")
        if found.void > VOID:
            yield error("spf-lookups", record.id, f"{found.void} of its lookups find nothing, of at most {VOID}")
        yield from (error("spf-include", record.id, fault) for fault in found.faults)


RULES: tuple[Callable[[MailView], Iterator[Finding]], ...] = (one_record, syntax, lookups)
