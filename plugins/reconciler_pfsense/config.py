"""The settings of one pfSense target. Pure: it may not import the SSH library."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

PORTS = {"ssh": 22, "xmlrpc": 443}
KEYS = ("private_key", "private_key_file")


class Config(BaseModel):
    """How to reach one firewall, by SSH or by its XML-RPC, and how to know that it is the right one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transport: Literal["ssh", "xmlrpc"] = Field(
        default="ssh",
        description="the way in: ssh, or xmlrpc where SSH is not wanted; both carry the same program, and xmlrpc takes one call at a time",
    )
    host: str = Field(min_length=1, description="name or address of the firewall")
    port: int = Field(default=0, ge=0, le=65535, description="TCP port of its SSH server or its web GUI; 0 is 22 or 443")
    username: str = Field(
        default="admin",
        min_length=1,
        description="account to log in with; by ssh it must be uid 0 (admin or root), because only root may write the configuration, by "
        "xmlrpc admin or one with the privilege system-xmlrpc-ha-sync",
    )
    password: SecretStr | None = Field(default=None, description="password of the account; by ssh, give this or a private key")
    private_key: SecretStr | None = Field(default=None, description="private key in OpenSSH or PEM form, as text")
    private_key_file: Path | None = Field(default=None, description="file that holds the private key")
    passphrase: SecretStr | None = Field(default=None, description="what the private key is encrypted with, if it is")
    known_hosts: str = Field(
        default="",
        description="by ssh, required: the firewall's host key, as lines of known_hosts (`[fw]:22 ssh-ed25519 AAAA...`) or the absolute "
        "path of such a file; there is no way to skip this check, because the session is a root shell on the firewall",
    )
    certificate: str = Field(
        default="",
        description="by xmlrpc: the certificate of the web GUI, or of the authority that signed it, as PEM text or the absolute path of a "
        "PEM file; default: the system's authorities. There is no way to skip this check either",
    )
    server_name: str = Field(default="", description="by xmlrpc: the name that the certificate must be valid for; default host")
    php: str = Field(default="/usr/local/bin/php", description="by ssh: the PHP interpreter on the firewall")
    timeout: float = Field(
        default=90.0,
        gt=0,
        description="seconds that one execution on the firewall may take, connecting included; a filter reload on a small box takes tens",
    )
    lock_timeout: int = Field(default=20, ge=0, description="seconds to wait on the firewall for another run of this program to end")
    watch_interval: float = Field(
        default=5.0, gt=0, description="seconds between two glances at whether somebody else changed the configuration"
    )

    def files(self) -> dict[str, Path]:
        """Name the files among the fields that may as well hold a text."""
        texts = {"known_hosts": self.known_hosts, "certificate": self.certificate}
        return {name: Path(text) for name, text in texts.items() if text.startswith("/")}

    @field_validator("host")
    @classmethod
    def _bare(cls, value: str) -> str:
        if "@" in value or "/" in value:
            raise ValueError(
                "must be a name or an address and nothing else, because every message names it; use username, password and port"
            )
        return value

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        """Require exactly one credential, so that it is never unclear which one was tried, and a way to know the firewall."""
        given = [name for name in ("password", *KEYS) if getattr(self, name) is not None]
        if self.transport == "xmlrpc":
            if given != ["password"] or self.known_hosts:
                raise ValueError("xmlrpc takes a password, and neither a private key nor known_hosts")
        elif len(given) != 1:
            raise ValueError(f"give exactly one of password, private_key, private_key_file; given: {', '.join(given) or 'none'}")
        elif not self.known_hosts:
            raise ValueError("known_hosts is missing: without the firewall's host key a root shell could be anybody's")
        elif self.certificate or self.server_name:
            raise ValueError("certificate and server_name go with the transport xmlrpc; ssh checks known_hosts")
        object.__setattr__(self, "port", self.port or PORTS[self.transport])
        return self
