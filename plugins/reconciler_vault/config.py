"""The settings of one Vault or OpenBao target. Pure; knows no client."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from reconciler.resource import Address


class TokenAuth(BaseModel):
    """A token given as it is. It is renewed while it can be and cannot be replaced when it ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["token"] = "token"
    token: SecretStr = Field(description="the token; no default, because a token found by chance belongs to somebody else")


class TokenFileAuth(BaseModel):
    """A token kept fresh in a file by somebody else, for example by an agent; the file is read again when the token ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["token_file"] = "token_file"
    token_file: Path = Field(description="file that holds the token; blanks round it are ignored")


class KubernetesAuth(BaseModel):
    """Log in as a Kubernetes service account."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["kubernetes"] = "kubernetes"
    role: str = Field(description="role of the kubernetes auth method to log in to")
    mount: str = Field(default="kubernetes", description="path of the auth method; the default is the one its own guide uses")
    jwt_file: Path = Field(
        default=Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        description="the projected service account token, read anew at every login because it rotates; default as mounted in a pod",
    )


class AppRoleAuth(BaseModel):
    """Log in with a role id and a secret id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["approle"] = "approle"
    role_id: str = Field(description="the role's id; not a secret by itself")
    secret_id: SecretStr = Field(
        default=SecretStr(""), description="the secret id; it must allow more than one use, or a second login fails; or secret_id_file"
    )
    secret_id_file: Path | None = Field(
        default=None, description="file that holds the secret id, read anew at every login so that it can be replaced; none by default"
    )
    mount: str = Field(default="approle", description="path of the auth method; the default is the one its own guide uses")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if bool(self.secret_id.get_secret_value()) is (self.secret_id_file is not None):
            raise ValueError("give either secret_id or secret_id_file")
        return self

    def secret(self, read: Callable[[Path], str]) -> str:
        """Give the secret id; ``read`` reads a file."""
        return read(self.secret_id_file) if self.secret_id_file is not None else self.secret_id.get_secret_value()


class VaultConfig(BaseModel):
    """One server, one namespace, one identity. Nothing is taken from VAULT_* variables or from the home directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Address = Field(
        description="base address, for example https://vault.example.org:8200; no default, so that no test talks to production"
    )
    auth: Annotated[TokenAuth | TokenFileAuth | KubernetesAuth | AppRoleAuth, Field(discriminator="method")] = Field(
        description="how to get a token; one login per life of a token"
    )
    namespace: str = Field(default="", description="namespace to work in; empty for the root namespace, the only one most servers have")
    registry: str = Field(
        default="secret/reconciler",
        description="KV v2 mount and folder where claims are kept as metadata without data: roles have no field for a mark",
    )
    poll: float = Field(
        default=30.0, ge=1, le=86400, description="seconds between looks at the versions of a stack's secrets, for rotations by other hands"
    )
    parallel: int = Field(default=8, ge=1, le=64, description="secrets looked at at the same time, each on a connection of its own")
    timeout: float = Field(
        default=10.0, gt=0, le=300, description="seconds one call may take; 10 because Vault answers in milliseconds or is ill"
    )
    ca_file: Path | None = Field(default=None, description="certificate bundle to trust instead of the system's; none by default")

    @field_validator("url", "registry")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.strip().rstrip("/")

    @field_validator("registry")
    @classmethod
    def _mount_and_folder(cls, value: str) -> str:
        if "/" not in value.strip("/"):
            raise ValueError("registry needs a mount and a folder, such as secret/reconciler")
        return value.strip("/")
