"""The note that the core keeps beside a secret, as texts that fit into custom_metadata. Pure.

An entry holds at most 512 bytes of printable text, and a path 64 entries, other tools' included (Vault's KV v2 API). So the note is JSON,
cut into numbered parts under the name of the installation; two installations that share a path keep two notes. All parts are written by
one PATCH, and a note that is not whole is no note. ``rules`` says by which declaration its facts were told, so that they are told anew when
git asks for something else.
"""

import json
from collections.abc import Mapping

from reconciler.driver import SecretNote

SEEN = "reconciler-seen."
PART, ENTRIES = 500, 64
"""Bytes of one part, and entries of one path."""


def prefix(owner: str) -> str:
    """Give the beginning of the names of an installation's parts; ``owner`` is ``<instance>/<stack>``."""
    return f"{SEEN}{owner.partition('/')[0]}."


def parts(owner: str, note: SecretNote, rules: str, custom: Mapping[str, str]) -> dict[str, str | None] | None:
    """Give the PATCH that puts ``note`` in the place of the last one; None when there is no room for it."""
    body = {
        "v": note.version,
        "t": dict(note.tags),
        "f": {key: dict(facts) for key, facts in note.facts.items()},
        "s": note.seal,
        "r": rules,
    }
    text, begin = json.dumps(body, separators=(",", ":"), sort_keys=True), prefix(owner)
    new = {f"{begin}{number}": text[at : at + PART] for number, at in enumerate(range(0, len(text), PART))}
    old = {key for key in custom if key.startswith(begin)}
    if len(custom.keys() - old) + len(new) > ENTRIES:
        return None
    return {**dict.fromkeys(old - new.keys()), **new}


def note_in(owner: str, custom: Mapping[str, str]) -> tuple[SecretNote, str] | None:
    """Read the note and its rules; None when there is none or it is not whole."""
    begin, found = prefix(owner), ""
    while (part := custom.get(f"{begin}{len(found) // PART}")) is not None:
        found += part
        if len(part) < PART:
            break
    try:
        body = json.loads(found)
        facts = {str(key): {str(name): str(text) for name, text in told.items()} for key, told in body["f"].items()}
        tags = {str(key): str(tag) for key, tag in body["t"].items()}
        return SecretNote(str(body["v"]), tags, facts, str(body["s"])), str(body["r"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
