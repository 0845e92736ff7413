"""From specs to edits, whatever the kind. Pure: it knows no transport."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.driver import Mark
from reconciler.resource import Spec
from reconciler_pfsense.agent import Snapshot
from reconciler_pfsense.haproxy import BACKEND, FRONTEND, settings_edit
from reconciler_pfsense.items import ALIASES, BACKENDS, FORWARDS, FRONTENDS, HAPROXY, RULES, Edit, Found, Kind, create
from reconciler_pfsense.rules import ALIAS, FORWARD, RULE, forward_edits, linked, tracker
from reconciler_pfsense.spec import FirewallRule, HAProxySettings, PortForward

BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in (ALIAS, FORWARD, RULE, BACKEND, FRONTEND)}
"""The kinds that are items of a list; HAProxySettings is the one that is not."""


def edits_for(spec: Spec, mark: Mark, found: Found | None, snapshot: Snapshot) -> list[Edit]:
    """Give the edits that make ``spec`` true for the item found, or for a new one."""
    if isinstance(spec, HAProxySettings):
        return [settings_edit(spec)]
    kind = BY_NAME[mark.kind]
    fields = kind.fields(spec, mark, found.item if found else None)
    if isinstance(spec, PortForward):
        return forward_edits(spec, mark, found, fields, snapshot)
    if isinstance(spec, FirewallRule) and found is None:
        fields["tracker"] = tracker(mark, snapshot)
    return [found.edit(fields) if found else create(kind.path, kind.key(spec, fields.get("descr", "")), fields)]


def deletes_for(found: Found, snapshot: Snapshot) -> list[Edit]:
    """Give the edits that take an item away, the linked rule of a forward included."""
    if found.kind is not FORWARD:
        return [found.delete()]
    rule = linked(found.item, snapshot)
    return [*([] if found.index < 0 else [found.delete()]), *([rule.delete()] if rule else [])]


def is_done(edit: Edit, snapshot: Snapshot) -> bool:
    """Say whether an edit would change nothing."""
    if edit.get("delete"):
        return False
    if "path" in edit:
        item = snapshot.settings or {}
    elif "at" in edit:
        item = snapshot.lists[edit["list"]][edit["at"]]
    else:
        return False
    return all(item.get(key) == value for key, value in edit["set"].items()) and not any(key in item for key in edit["unset"])


def needs_reload(edits: list[Edit], snapshot: Snapshot) -> tuple[bool, bool]:
    """Say whether pf and whether HAProxy must load anew. HAProxy only if need be: each reload cuts its long sessions some time later."""
    due = [edit for edit in edits if not is_done(edit, snapshot)]
    lists = {edit.get("list", HAPROXY) for edit in due}
    aliases = {edit["key"].get("name") for edit in due if edit.get("list") == ALIASES}
    used = aliases & _aliases_of_haproxy(snapshot) if aliases else set()
    return bool(lists & {ALIASES, FORWARDS, RULES}), bool(lists & {HAPROXY, FRONTENDS, BACKENDS}) or bool(used)


def _aliases_of_haproxy(snapshot: Snapshot) -> set[str]:
    """Give every word that HAProxy's part of the configuration uses, and what the aliases among them are made of."""
    inner = {str(alias.get("name")): set(_words_in(alias.get("address", ""))) for alias in snapshot.lists[ALIASES]}
    used: set[str] = set()
    new = set(_words_in([snapshot.lists[FRONTENDS], snapshot.lists[BACKENDS]]))
    while new:
        used |= new
        new = {word for name in new for word in inner.get(name, ())} - used
    return used


def _words_in(value: Any) -> Iterator[str]:
    """Give every word that stands anywhere in nested data."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _words_in(inner)
    else:
        yield from re.split(r"[\s,]+", str(value))
