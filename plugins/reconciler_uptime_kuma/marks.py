"""Where our mark lives: in the last line of a description, in a notification's configuration, in the style sheet of a status page.

The description of a page is for everybody to read, so a comment among its styles holds the mark there. Pure. Beside the mark stand the
fingerprints of the secrets that were written, the names of the extra columns and tags that are ours, and the digest of the wish that was
written last; so that everything needed to decide is in Uptime Kuma itself.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from reconciler.driver import Mark

CONFIG_KEY = "reconciler"
"""The key of a notification's configuration that holds the mark."""

_LINE = re.compile(r"^(?:<!-- |/\* )?(reconciler:.+?)(?: -->| \*/)?$", re.MULTILINE)
_FINGERPRINT = "fingerprint."
_LABEL = "tag."


@dataclass(frozen=True, slots=True)
class Tag:
    """A mark and what stands beside it.

    ``keys`` are the optional keys that we wrote, ``labels`` the tags that we put; ``secrets`` maps a field's name to a fingerprint.
    """

    mark: Mark
    digest: str = ""
    keys: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def line(self) -> str:
        """Give the line for a description: an HTML comment, which the page's Markdown does not show."""
        return f"<!-- {self._text()} -->"

    def css(self) -> str:
        """Give the line for a style sheet."""
        return f"/* {self._text()} */"

    def _text(self) -> str:
        pairs = [
            ("digest", self.digest),
            ("keys", ",".join(self.keys)),
            *((_FINGERPRINT + name, self.secrets[name]) for name in sorted(self.secrets)),
            *((_LABEL + name, "1") for name in self.labels),
        ]
        return f"{self.mark} | {urlencode([pair for pair in pairs if pair[1]])}"

    def config(self) -> str:
        """Give the value for a notification's configuration."""
        data = {"mark": str(self.mark), "digest": self.digest, "keys": list(self.keys), "secrets": dict(self.secrets)}
        return json.dumps(data, sort_keys=True)


def join(text: str, line: str) -> str:
    """Put the mark's line under the human part of a text."""
    return f"{text}\n\n{line}" if text else line


def split(description: str | None) -> tuple[str, Tag | None]:
    """Part a description into its human text and our mark; a person may have added lines on either side of it."""
    text = description or ""
    for match in _LINE.finditer(text):
        tag = _parse(match.group(1))
        if tag is not None:
            rest = f"{text[: match.start()].rstrip()}\n{text[match.end() :].lstrip()}"
            return rest.strip(), tag
    return text.strip(), None


def _parse(line: str) -> Tag | None:
    head, _, tail = line.partition(" | ")
    mark = Mark.parse(head.strip())
    if mark is None:
        return None
    pairs = dict(parse_qsl(tail))
    secrets = {name.removeprefix(_FINGERPRINT): value for name, value in pairs.items() if name.startswith(_FINGERPRINT)}
    labels = tuple(sorted(name.removeprefix(_LABEL) for name in pairs if name.startswith(_LABEL)))
    return Tag(mark, pairs.get("digest", ""), tuple(filter(None, pairs.get("keys", "").split(","))), secrets, labels)


def of_config(config: Mapping[str, Any]) -> Tag | None:
    """Read the mark from a notification's configuration; None when there is none, or something else stands in its place."""
    try:
        data = json.loads(config.get(CONFIG_KEY) or "null")
    except (TypeError, ValueError):
        return None
    mark = Mark.parse(str(data.get("mark"))) if isinstance(data, dict) else None
    if mark is None:
        return None
    return Tag(mark, str(data.get("digest", "")), tuple(map(str, data.get("keys", ()))), dict(data.get("secrets", {})))
