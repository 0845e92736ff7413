"""What all kinds of Uptime Kuma share: a title that people see, which is the resource's name unless it says otherwise. Pure."""

from typing import Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from reconciler.resource import JSONObject, Spec
from reconciler_uptime_kuma import marks

DRIVER = "uptime-kuma"


def _title(value: str) -> str:
    return value.strip()


def human(value: str) -> str:
    """Give a text for people as it is compared. Raises ValueError when it holds a mark."""
    text, tag = marks.split(value)
    if tag is not None:
        raise ValueError("must not contain a mark; leave the line that begins with reconciler: out")
    return text


def _sorted_set(values: list[str]) -> list[str]:
    return sorted(set(values))


Title: TypeAlias = Annotated[str, AfterValidator(_title), Field(min_length=1, max_length=150)]
Names: TypeAlias = Annotated[list[str], AfterValidator(_sorted_set)]
Human: TypeAlias = Annotated[str, AfterValidator(human)]


class Named(Spec):
    """A spec whose ``title`` is the resource's name unless it says otherwise."""

    title: Title = Field(default="", description="What people see in Uptime Kuma; the resource's name when left out.")

    @classmethod
    def from_document(cls, document: JSONObject) -> tuple[str, Self]:
        """Build ``(name, spec)``; the name is where defaults come from."""
        name = str(document["metadata"]["name"])
        return name, cls.model_validate(document.get("spec") or {}, context={"name": name})

    @model_validator(mode="before")
    @classmethod
    def _defaults_from_name(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        name = (info.context or {}).get("name", "")
        if name and not data.get("title"):
            data["title"] = name
        return cls._derive(data, name or str(data.get("title", "")))

    @model_validator(mode="after")
    def _has_a_title(self) -> Self:
        if not self.title:
            raise ValueError("title is empty; write one")
        return self

    @classmethod
    def _derive(cls, data: dict[str, Any], name: str) -> dict[str, Any]:
        return data
