"""The section ``http`` of the settings: where to listen, who may ask, and whose webhooks are believed. Pure models; starts nothing."""

import base64
import binascii
import ipaddress
import re
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

Role: TypeAlias = Literal["read", "operate", "approve"]
ROLES: tuple[Role, ...] = ("read", "operate", "approve")
"""From least to most; each may do what those before it may."""
Scheme: TypeAlias = Literal["github", "gitea", "forgejo", "gitlab-token", "standard-webhooks", "bitbucket", "hmac"]
KEY_PREFIX = "whsec_"


def _address(text: str) -> str:
    """Check ``host:port``; an empty text means that nothing listens."""
    if text:
        split_address(text)
    return text


def split_address(text: str) -> tuple[str, int]:
    """Give host and port of ``127.0.0.1:8080`` or ``[::1]:8080``. Raises ValueError when it is neither."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:8080")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("must name an IP address to listen on, for example 127.0.0.1:8080 or [::]:8080") from None
    return host, int(port)


def loopback(text: str) -> bool:
    """Say whether an address is reachable from this machine alone."""
    return ipaddress.ip_address(split_address(text)[0]).is_loopback


Address: TypeAlias = Annotated[str, AfterValidator(_address)]


def _network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


Network: TypeAlias = Annotated[str, AfterValidator(_network)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Token(_Section):
    """What one person or program shows to the API."""

    token: SecretStr = Field(min_length=20, description="The bearer token; at least 20 characters, e.g. from `openssl rand -hex 32`.")
    role: Role = Field("read", description="`read` sees, `operate` also triggers and acknowledges, `approve` also approves held plans.")


class Webhook(_Section):
    """One sender whose webhooks are believed when they are signed. Its path is `/webhooks/NAME`."""

    scheme: Scheme = Field(
        description="How it proves who it is: `github`, `gitea`, `forgejo`, `gitlab-token`, `standard-webhooks` (GitLab's "
        "signing token `whsec_...`), `bitbucket`, or `hmac` (`X-Signature: sha256=...` or `sha512=...`)."
    )
    secrets: tuple[SecretStr, ...] = Field(
        min_length=1, max_length=2, description="The secret that the sender was given; two while it is being changed."
    )
    repository: str = Field("", description="Ignore events that name another repository, e.g. `me/infra`; empty: take all.")
    branch: str = Field("", description="Ignore pushes that name another branch; empty: take all.")

    @model_validator(mode="after")
    def _usable(self) -> Self:
        for number, one in enumerate(self.secrets):
            text = one.get_secret_value()
            if not text.strip():
                raise ValueError(f"secrets.{number} is empty: whoever sends nothing would be believed")
            if self.scheme == "standard-webhooks" and not signing_key(text):
                raise ValueError(f"secrets.{number} is no signing token; GitLab shows one that begins with {KEY_PREFIX}")
        return self


def signing_key(text: str) -> bytes:
    """Give the key inside a Standard Webhooks token ``whsec_<base64>``; empty when it is none."""
    if not text.startswith(KEY_PREFIX):
        return b""
    try:
        return base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
    except binascii.Error:
        return b""


class Http(_Section):
    """Where the daemon listens. Empty addresses: nowhere."""

    listen: Address = Field("", description="HOST:PORT for health, metrics and the API; empty: nothing listens. A change needs a restart.")
    webhook_listen: Address = Field(
        "", description="HOST:PORT for webhooks alone, to be exposed; empty: on `http.listen`. A change needs a restart."
    )
    tokens: dict[str, Token] = Field(default_factory=dict, description="Name of a person or program to its token; none: there is no API.")
    metrics: Literal["token", "open"] = Field("token", description="Whether `/metrics` asks for a token, where there are any.")
    webhooks: dict[str, Webhook] = Field(default_factory=dict, description="Name to sender; none: no webhook is received.")
    max_body: int = Field(1_000_000, ge=1000, le=25_000_000, description="Most bytes of one request; a larger webhook is left to the poll.")
    deadline: float = Field(10, gt=0, le=120, description="Seconds in which a request must have come in whole.")
    trusted_proxies: tuple[Network, ...] = Field((), description="Networks of proxies whose `X-Forwarded-For` is believed.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.listen and not loopback(self.listen) and not self.tokens:
            raise ValueError(f"listen {self.listen} can be reached from other machines; set http.tokens, or listen on 127.0.0.1")
        if self.webhooks and not (self.listen or self.webhook_listen):
            raise ValueError("webhooks are set, but nothing listens; set http.webhook_listen or http.listen")
        if self.listen and self.listen == self.webhook_listen and not self.listen.endswith(":0"):
            raise ValueError("webhook_listen is the same as listen; leave it empty to serve both there")
        for name in (*self.webhooks, *self.tokens):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
                raise ValueError(f"{name!r} must consist of letters, digits, dots and dashes")
        values = [one.token.get_secret_value() for one in self.tokens.values()]
        if len(set(values)) < len(values):
            raise ValueError("two of the tokens are the same; nobody could tell who did what")
        return self
