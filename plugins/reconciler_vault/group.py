"""What can be wished of an identity group. Pure; knows no client."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from reconciler.resource import ResourceId
from reconciler_vault.spec import Names, VaultSpec

OURS = "reconciler"
"""How the entries of the metadata begin that are ours."""


class IdentityGroup(VaultSpec):
    """Policies for everybody in a group. Who is in it, and the alias of an external one, are left to others and never written."""

    immutable: ClassVar[tuple[str, ...]] = ("/name",)
    identity_bearing: ClassVar[bool] = True
    named_by: ClassVar[str] = "name"

    name: str = Field(description="name of the group, whose case means nothing; metadata.name by default")
    type: Literal["internal", "external"] = Field(
        default="internal", description="external: an auth method says by an alias who is in it; cannot be changed"
    )
    policies: Names = Field(default=(), description="policies that everybody in it has; a set")
    metadata: Mapping[str, str] = Field(default_factory=dict, description="texts for people and templated policies; all of them")

    @field_validator("name")
    @classmethod
    def _one_part(cls, value: str) -> str:
        name = value.strip().lower()
        if not name or "/" in name:
            raise ValueError(f"{value!r} is not the name of a group; it has no slash")
        return name

    @field_validator("metadata")
    @classmethod
    def _fits(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if len(value) > 62:
            raise ValueError("at most 62 entries: a group holds 64, and two are ours")
        for key, text in sorted(value.items()):
            if key.startswith(OURS):
                raise ValueError(f"{key} is kept for our mark; choose another name")
            if not 1 <= len(key.encode()) <= 128 or not 1 <= len(text.encode()) <= 512 or not (key + text).isprintable():
                raise ValueError(f"{key[:40]}: a key holds 1 to 128 and a text 1 to 512 printable characters")
        return value

    @property
    def natural(self) -> str:
        """The name."""
        return self.name

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Come after the policies, where the stack declares them by these names."""
        return tuple(ResourceId("vault", "Policy", policy) for policy in self.policies)
