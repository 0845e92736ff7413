"""The settings of one pfSense target. Pure: it may not import the SSH library."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class Config(BaseModel):
    """How to reach one firewall over SSH, and how to know that it is the right one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(min_length=1, description="name or address of the firewall's SSH server")
    port: int = Field(default=22, ge=1, le=65535, description="TCP port of the SSH server; pfSense listens on 22 unless changed")
    username: str = Field(
        default="admin",
        min_length=1,
        description="account to log in with; it must be uid 0 (admin or root), because only root may write the configuration",
    )
    password: SecretStr | None = Field(default=None, description="password of the account; give this or a private key")
    private_key: SecretStr | None = Field(default=None, description="private key in OpenSSH or PEM form, as text")
    private_key_file: Path | None = Field(default=None, description="file that holds the private key")
    passphrase: SecretStr | None = Field(default=None, description="what the private key is encrypted with, if it is")
    known_hosts: str = Field(
        min_length=1,
        description="the firewall's host key: lines as in known_hosts (`[fw]:22 ssh-ed25519 AAAA...`) or the absolute path of such a file; "
        "there is no way to skip this check, because the session is a root shell on the firewall",
    )
    php: str = Field(default="/usr/local/bin/php", description="the PHP interpreter on the firewall")
    timeout: float = Field(
        default=90.0,
        gt=0,
        description="seconds that one execution on the firewall may take, connecting included; a filter reload on a small box takes tens",
    )
    lock_timeout: int = Field(default=20, ge=0, description="seconds to wait on the firewall for another run of this program to end")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        """Require exactly one credential, so that it is never unclear which one was tried."""
        given = [name for name in ("password", "private_key", "private_key_file") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of password, private_key, private_key_file; given: {', '.join(given) or 'none'}")
        return self
