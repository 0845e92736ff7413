"""CEL, the expression language of Kubernetes: the only room that imports the library, at the first expression that needs it.

No I/O. A plugin may import this room, for conditions that users write on its objects.
"""

import sys
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from types import ModuleType
from typing import Any


@lru_cache(maxsize=10_000)
def compiled(source: str) -> Any:
    """Compile an expression, once. Raises ValueError when it cannot be read."""
    return _library().compile(source)


def context(variables: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]] | None = None) -> Any:
    """Make what an expression is executed in."""
    return _library().Context(variables=dict(variables), functions=dict(functions or {}))


def holds(source: str, variables: Mapping[str, Any]) -> bool:
    """Say whether a condition is true. Raises ValueError when it cannot be told, e.g. because a field is not there yet."""
    try:
        found = compiled(source).execute(context(variables))
    except (ValueError, LookupError, ArithmeticError, RuntimeError, TypeError) as error:
        raise ValueError(str(error.args[0] if error.args else error).splitlines()[0]) from None
    if not isinstance(found, bool):
        raise ValueError(f"it gives {type(found).__name__}, not true or false")
    return found


@cache
def _library() -> Any:
    """Load the native library.

    Importing the package also imports its interactive shell, which takes 20 times as long as the rest; an empty module takes its place.
    """
    sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
    import cel

    return cel
