"""The settings of one Cloudflare target: one credential and the zones that it looks after."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from reconciler.resource import Address
from reconciler_cloudflare.values import host

OFFICIAL = "https://api.cloudflare.com/client/v4"


class Config(BaseModel):
    """How to reach Cloudflare. Variables of the environment that the vendor's library would read are ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: SecretStr = Field(
        description="API token with the permissions DNS Read and DNS Write on the zones; Zone Read where `zones` gives no id, and to be "
        "told of a zone that is paused or moved."
    )
    base_url: Address = Field(default=OFFICIAL, description="Root of the API, without a slash at the end; the default is the official one.")
    zones: dict[str, str] = Field(
        default_factory=dict,
        description="Zone name -> zone id, 32 hex digits. An empty id is looked up by name, which needs the permission Zone Read. "
        "A zone that is named here is pruned even after its last record has left git; default none.",
    )
    account: str = Field(
        default="",
        description="Account id, 32 hex digits, whose audit log says who changed a drifted record; needs the permission Account Settings "
        "Read, and without it that stays unsaid. Empty is looked up from the zone, which needs Zone Read; default empty.",
    )
    batch_limit: int = Field(
        default=200,
        ge=1,
        le=3500,
        description="Most operations in one batch call; default 200, the limit of the free plan. Paid plans take 3500.",
    )
    comment_limit: int = Field(
        default=100,
        ge=50,
        le=500,
        description="Most characters in a record's comment, our mark included; default 100, as on the free plan. Paid plans take 500.",
    )
    requests_per_second: float = Field(
        default=4.0,
        gt=0,
        description="Steady request rate, bursts of 20 allowed; default 4, because Cloudflare allows 1200 per five minutes and credential. "
        "Targets with the same token share it, at the smallest rate that one of them says.",
    )
    timeout: float = Field(
        default=20.0,
        gt=0,
        description="Seconds one call may take; default 20, several times what a batch of 200 records needs.",
    )

    @field_validator("base_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @field_validator("zones")
    @classmethod
    def _named_canonically(cls, value: dict[str, str]) -> dict[str, str]:
        return {host(name): id for name, id in value.items()}
