"""Expressions inside nested data: finding, filling and leaving open. Pure; knows no file and no resource."""

import re
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

from reconciler.expressions import Environment, render
from reconciler.resource import SecretRef

Path: TypeAlias = tuple[str | int, ...]
_VARIABLE = re.compile(r"\bvars\.([A-Za-z_]\w*)")


def walk(value: Any, path: Path, change: Callable[[str, Path], Any]) -> Any:
    """Rebuild nested data with every text that holds an expression replaced by what ``change`` makes of it."""
    if isinstance(value, str):
        return change(value, path) if "${" in value else value
    if isinstance(value, dict):
        return {key: walk(item, (*path, key), change) for key, item in value.items()}
    if isinstance(value, list):
        return [walk(item, (*path, number), change) for number, item in enumerate(value)]
    return value


def evaluated(value: Any, environment: Environment) -> Any:
    """Evaluate every expression in nested data. Raises ExpressionError."""
    return walk(value, (), lambda text, path: render(text, environment))


def uses_variables(value: Any) -> set[str]:
    """Name the variables that nested data reads. A text that cannot be read names none: evaluating it says what is wrong."""
    found: set[str] = set()

    def look(text: str, path: Path) -> str:
        found.update(_VARIABLE.findall(text))
        return text

    walk(value, (), look)
    return found


def with_literals(value: Any, open: Collection[Path]) -> Any:
    """Write finished texts so that evaluating them once more gives them back; the texts at ``open`` stay templates."""
    return walk(value, (), lambda text, path: text if path in open else text.replace("${", "$${"))


def without_open(value: Any, open: Collection[Path], path: Path = ()) -> Any:
    """Leave out the texts at ``open``, whose value is not known yet."""
    if isinstance(value, dict):
        return {key: without_open(item, open, (*path, key)) for key, item in value.items() if (*path, key) not in open}
    if isinstance(value, list):
        return [without_open(item, open, (*path, number)) for number, item in enumerate(value) if (*path, number) not in open]
    return value


def without_secrets(value: Any) -> Any:
    """Leave out every value that is a secret reference: what ``ref()`` gives ends up in plain text."""
    if isinstance(value, dict):
        return {str(key): without_secrets(item) for key, item in value.items() if not isinstance(item, SecretRef)}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value if not isinstance(item, SecretRef)]
    return value
