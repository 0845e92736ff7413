"""The settings of one vantage point: from where and how the checks are made. It holds no secret."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator


def split_address(address: str, port: int = 0) -> tuple[str, int]:
    """Split ``host:port``, ``[v6]:port`` or, with a default ``port``, a bare host or address. Raises ValueError."""
    if "@" in address:  # not quoted: it may be a password
        raise ValueError("an address is host:port and nothing else, without a user name or password")
    host, separator, number = address.rpartition(":")
    if not separator or (host.count(":") > 1 and not host.startswith("[")) or address.endswith("]"):
        host, number = address, str(port)
    if not host.strip("[]") or not (number.isascii() and number.isdigit()) or not 0 < int(number) < 65536:
        raise ValueError(f"{address!r} is not an address; write host:port")
    return host.removeprefix("[").removesuffix("]"), int(number)


class ProbeConfig(BaseModel):
    """How checks reach the world."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connect_to: dict[str, str] = Field(
        default_factory=dict,
        description='Connect somewhere else: "host:port" as written in a probe -> "host:port" really dialled; default none. '
        "Names, certificates and headers stay those of the probe, as with curl's option of this name.",
    )
    resolve_at: dict[str, str] = Field(
        default_factory=dict,
        description='Ask another resolver: a resolver as written in a probe -> "address:port" really asked; default none.',
    )
    ca_file: str = Field(
        default="",
        description="Path of a PEM file with certificate authorities to trust beside the system's; default none.",
    )
    timeout: float = Field(
        default=60.0,
        gt=0,
        description="Seconds any one check may take, whatever its own timeout says; default 60, the usual round trip of a mail.",
    )
    workers: int = Field(
        default=16,
        ge=1,
        le=256,
        description="Checks made at the same time; default 16, because a check waits far more than it works.",
    )

    def files(self) -> dict[str, Path]:
        """Name the file, which is a text here."""
        return {"ca_file": Path(self.ca_file)} if self.ca_file else {}

    @field_validator("connect_to")
    @classmethod
    def _addresses(cls, value: dict[str, str]) -> dict[str, str]:
        return {written: dialled for written, dialled in value.items() if split_address(written) and split_address(dialled)}

    @field_validator("resolve_at")
    @classmethod
    def _resolvers(cls, value: dict[str, str]) -> dict[str, str]:
        return {written: asked for written, asked in value.items() if split_address(written, 53) and split_address(asked, 53)}
