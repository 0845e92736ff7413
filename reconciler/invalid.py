"""What pydantic finds wrong with a document, in the words of a person who wrote it: a path and a message, with a suggestion.

Pure. Never quotes the value that is wrong, because it may be a secret written in the wrong place.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel, ValidationError

Path: TypeAlias = list[str | int]


def explain(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[Path, str]]:
    """Give each thing that is wrong: where, below the document's spec, and what. A field of several types is named once."""
    said: set[tuple[str, str]] = set()
    for one in error.errors(include_input=False, include_url=False):
        path = [part for number, part in enumerate(one["loc"]) if not (number and _is_branch(part))]
        if one["type"] == "is_instance_of" and len(one["loc"]) > 1:
            continue  # the other branch of a text that may be a secret reference
        if one["type"] == "extra_forbidden":
            message = f"is not a field here{did_you_mean(str(path[-1]), _fields(model, path[:-1]))}"
        else:
            text = one["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            message = text if text[1:2].isupper() else text[:1].lower() + text[1:]  # "SRV takes data" begins with a name
        if (key := (str(path), message)) not in said:
            said.add(key)
            yield path, message


def did_you_mean(word: str, words: Sequence[str]) -> str:
    """Give ``; did you mean X?`` when something known is close, else an empty text."""
    close = get_close_matches(word, words, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _is_branch(part: str | int) -> bool:
    """Say whether a part of the location names a branch of a union or a validator rather than a field."""
    return part == "str" or str(part).startswith(("function-", "is-instance[", "tagged-union"))


def _fields(model: type[BaseModel], path: Path) -> list[str]:
    """List the fields at a place inside a model, by the names people write."""
    for part in path:
        if isinstance(part, str):
            field = next((one for name, one in model.model_fields.items() if part in (name, one.alias)), None)
            inner = next(_models(field.annotation), None) if field is not None else None
            if inner is None:
                return []
            model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Find the models that an annotation speaks of, however they are wrapped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
