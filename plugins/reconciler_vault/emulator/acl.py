"""Policies as the server understands them: parse the HCL in use here, and say what a set of them allows on a path."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from reconciler_vault.emulator.wire import Refused

CAPABILITIES = frozenset({"create", "read", "update", "patch", "delete", "list", "sudo", "deny"})
COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"|#[^\n]*|//[^\n]*|/\*.*?\*/', re.S)
BLOCK = re.compile(r'\s*path\s+"([^"]+)"\s*\{\s*capabilities\s*=\s*\[([^\]]*)\]\s*\}', re.S)

Rules = Mapping[str, frozenset[str]]


def parse(text: str) -> Rules:
    """Read ``path`` blocks with ``capabilities``, in HCL or JSON. Raises Refused for anything else."""
    blocks = dict(_json_blocks(text)) if text.lstrip().startswith("{") else dict(_hcl_blocks(text))
    for path, capabilities in blocks.items():
        unknown = capabilities - CAPABILITIES
        if unknown:
            raise Refused(400, f'failed to parse policy: path "{path}": invalid capability "{sorted(unknown)[0]}"')
    return blocks


def _hcl_blocks(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    bare = COMMENT.sub(lambda found: found[0] if found[0].startswith('"') else " ", text)
    position = 0
    while bare[position:].strip():
        block = BLOCK.match(bare, position)
        if block is None:
            raise Refused(400, "failed to parse policy: this server knows path blocks with capabilities only")
        yield block[1].removeprefix("/"), frozenset(re.findall(r'"([^"]*)"', block[2]))
        position = block.end()


def _json_blocks(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    try:
        for path, rule in json.loads(text)["path"].items():
            yield path.removeprefix("/"), frozenset(rule["capabilities"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused(400, "failed to parse policy: this server knows path blocks with capabilities only") from None


def allowed(policies: Iterable[Rules], path: str) -> frozenset[str]:
    """Give the capabilities on ``path``: those of the best matching pattern, joined over the policies that have it."""
    rules = list(policies)
    patterns = {pattern for rule in rules for pattern in rule if _matches(pattern, path)}
    if not patterns:
        return frozenset()
    best = max(patterns, key=_priority)
    joined = frozenset(capability for rule in rules for capability in rule.get(best, ()))
    return frozenset() if "deny" in joined else joined


def reaches(pattern: str, mount: str) -> bool:
    """Say whether a pattern may speak of something below a mount, which ends with a slash."""
    stem = re.split(r"[+*]", pattern, maxsplit=1)[0]
    return stem.startswith(mount) or (stem != pattern and mount.startswith(stem))


def _matches(pattern: str, path: str) -> bool:
    prefix, parts = pattern.endswith("*"), pattern.removesuffix("*").split("+")
    expression = "[^/]+".join(re.escape(part) for part in parts)
    return re.fullmatch(expression + (".*" if prefix else ""), path) is not None


def _priority(pattern: str) -> tuple[int, bool, int, int, str]:
    """Order patterns as Vault does: later first wildcard, no star at the end, fewer plus signs, longer, lexically greater."""
    wildcard = min((position for position in (pattern.find("+"), pattern.find("*")) if position >= 0), default=len(pattern) + 1)
    return wildcard, not pattern.endswith("*"), -pattern.count("+"), len(pattern), pattern
