"""The settings of one Uptime Kuma target."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from reconciler.resource import Address


class UptimeKumaConfig(BaseModel):
    """How to reach one Uptime Kuma, 1.23 or 2.x, and how long to wait for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Address = Field(
        pattern=r"^https?://[^/]+/?$",
        description="Where its web page is, e.g. https://status.example.org; http or https, without a path: Uptime Kuma serves none.",
    )
    username: str = Field(
        default="",
        description="The user to log in as. Empty means that the server's own login is switched off, because a proxy guards it.",
    )
    password: SecretStr = Field(
        default=SecretStr(""),
        description="The user's password. Used once per process; after that the session token is used, whose logins are not limited.",
    )
    timeout: float = Field(
        default=60.0,
        gt=0,
        le=600,
        description="Seconds until a call without an answer counts as lost; 60 because 1.23 sends its whole list with every write.",
    )
    settle: float = Field(
        default=3.0,
        ge=0,
        le=60,
        description="Seconds to look for a write whose answer was lost, because a write goes on after its connection has died; "
        "3 is more than the slowest write measured (2.2).",
    )
    login_pause: float = Field(
        default=60.0,
        ge=0,
        le=3600,
        description="Seconds without another password login after one was refused: 20 a minute are allowed to everybody together, "
        "failed or not, so a smaller number may lock people out.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file with the certificate authorities to trust for https; the system's own when left out.",
    )
    report_status: bool = Field(
        default=True,
        description="Whether a monitor that is down makes its resource unhealthy, so that what needs it waits.",
    )
