"""What a note wants, and where the board is. Pure: no network, no vendor library."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from reconciler.resource import Spec, Text


class BoardConfig(BaseModel):
    """How to reach one board."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="Base address, without a slash at the end.")
    token: SecretStr = Field(description="Token that may read and write notes.")
    timeout: float = Field(default=10, gt=0, description="Seconds one call may take.")


class Note(Spec):
    """One note. The board knows it by the name of the resource, which is its title there."""

    text: Text = Field(default="", description="What it says; may hold a secret.")
    colours: tuple[str, ...] = Field(default=("white",), description="Colours of the paper, in any order.")

    @field_validator("colours")
    @classmethod
    def _in_one_order(cls, colours: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted({colour.lower() for colour in colours}))
