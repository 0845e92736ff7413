"""What a probe looks at, in canonical form. Pure: nothing here connects to anything.

A check that expects nothing (a closed port, an absent record, a refused connection) proves something only together with a positive
control, so each of them must name one or brings its own.
"""

import ipaddress
import re
from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from reconciler.resource import Spec, Text
from reconciler_probe.config import split_address
from reconciler_probe.values import dns_value, host

Tls: TypeAlias = Literal["none", "starttls", "implicit"]


class Probe(Spec):
    """What all probes share."""

    timeout: float = Field(default=5.0, gt=0, le=600, description="Seconds until the whole check must be done; default 5.")


class Proxied(Probe):
    """A probe that may speak in the name of another client (PROXY protocol version 2)."""

    host: str = Field(min_length=1, description="Name or address to connect to.")
    port: int = Field(gt=0, lt=65536, description="TCP port.")
    proxy: Literal["none", "v2"] = Field(default="none", description="Send a PROXY header first; default none.")
    proxy_source: str = Field(
        default="192.0.2.10", description="Client address in the PROXY header; the default is reserved for documentation (RFC 5737)."
    )

    @field_validator("proxy_source")
    @classmethod
    def _address(cls, value: str) -> str:
        return str(ipaddress.ip_address(value))

    @property
    def where(self) -> str:
        """The address for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Tcp(Proxied):
    """A port is open, or, with ``expect_closed``, it is not."""

    expect_closed: bool = Field(default=False, description="The port must refuse or stay silent; default false. Needs a control.")
    control: str = Field(
        default="",
        description='With expect_closed: "host:port" that must be open from here at the same time, or the silence proves nothing.',
    )

    @model_validator(mode="after")
    def _controlled(self) -> Self:
        if self.expect_closed != bool(self.control):
            raise ValueError("expect_closed and control go together: name an address that must answer from here")
        if self.control:
            split_address(self.control)
        return self


class Mail(Proxied):
    """What probes of mail servers share: greeting, TLS, certificate, PROXY header."""

    timeout: float = Field(
        default=15.0, gt=0, le=600, description="Seconds until the whole check must be done; default 15, since Postfix refuses after 5."
    )
    banner: str = Field(default="", description="Regular expression that the greeting must contain; default anything.")
    server_name: str = Field(
        default="", description="Name that the certificate must be valid and trusted for; default: it is not verified, only its end is."
    )
    min_days_left: int = Field(default=14, ge=0, description="Days that the certificate must still be valid; default 14.")
    expect_refused: bool = Field(
        default=False,
        description="A connection without the PROXY header must be refused, beside the one with it, which must work; default false.",
    )
    tls: Tls

    @field_validator("banner")
    @classmethod
    def _expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.server_name and self.tls == "none":
            raise ValueError("server_name needs tls starttls or implicit")
        if self.expect_refused and self.proxy == "none":
            raise ValueError("expect_refused needs proxy v2: only the connection with the header shows that the server works at all")
        return self


class Smtp(Mail):
    """An SMTP server greets, takes EHLO and, if asked, TLS."""

    port: int = Field(default=25, gt=0, lt=65536, description="TCP port; default 25.")
    tls: Tls = Field(default="none", description="none, starttls, or implicit (TLS from the first byte); default none.")
    ehlo: str = Field(default="probe.invalid", pattern=r"^[A-Za-z0-9.:\[\]-]+$", description="Our name in EHLO; default probe.invalid.")


class Imap(Mail):
    """An IMAP server greets and, if asked, takes TLS."""

    port: int = Field(default=993, gt=0, lt=65536, description="TCP port; default 993.")
    tls: Tls = Field(default="implicit", description="none, starttls, or implicit (TLS from the first byte); default implicit.")


class Dns(Probe):
    """Every resolver gives exactly the expected values, no more and no less. One that gives no answer proves nothing, neither way."""

    name: str = Field(min_length=1, max_length=253, description="Name to look up; always absolute.")
    type: Literal["A", "AAAA", "CAA", "CNAME", "DS", "MX", "NS", "PTR", "SRV", "SSHFP", "TLSA", "TXT"] = Field(description="Record type.")
    resolvers: tuple[str, ...] = Field(
        min_length=1, description='Resolvers to ask, each an address with an optional port ("10.0.20.201:53").'
    )
    expect: tuple[str, ...] = Field(
        description='The whole set; a TXT as one text without quotes, an MX as "1 mail.example.org". Empty: no such record may exist.'
    )
    expect_at: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="What a resolver must give instead, such as the inner one of a split horizon: resolver as above -> its whole set; "
        "default the same of all.",
    )
    optional: tuple[str, ...] = Field(
        default=(),
        description="Resolvers whose silence is told and not counted; default none: whoever gives no answer makes the check unknown.",
    )
    control: str = Field(
        default="",
        description="Where an empty set is expected: a name that must have a record of this type, or the absence proves nothing.",
    )

    @field_validator("name", "control")
    @classmethod
    def _name(cls, value: str) -> str:
        return host(value)

    @field_validator("resolvers")
    @classmethod
    def _resolvers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for resolver in value:
            ipaddress.ip_address(split_address(resolver, 53)[0])
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _canonical(self) -> Self:
        own = {resolver: self._set(values) for resolver, values in sorted(self.expect_at.items())}
        for name, value in (("expect", self._set(self.expect)), ("expect_at", own), ("optional", tuple(sorted(set(self.optional))))):
            object.__setattr__(self, name, value)
        if strange := sorted({*self.expect_at, *self.optional} - set(self.resolvers)):
            raise ValueError(f"{', '.join(strange)} is not among the resolvers; write it there, too, and in the same way")
        if set(self.optional) == set(self.resolvers):
            raise ValueError("not every resolver can be optional: then nobody need answer")
        if all(self.expected(resolver) for resolver in self.resolvers) == bool(self.control):
            raise ValueError("name a control if, and only if, an empty set is expected: a name that must have a record of this type")
        return self

    def _set(self, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted({dns_value(self.type, value) for value in values}))

    def expected(self, resolver: str) -> tuple[str, ...]:
        """Give the whole set that one resolver must give, sorted."""
        return self.expect_at.get(resolver, self.expect)


class Http(Probe):
    """A web address answers with an expected status and text. Redirects are answers, not followed."""

    timeout: float = Field(default=10.0, gt=0, le=600, description="Seconds until the whole check must be done; default 10.")
    url: str = Field(pattern=r"^https?://[^/\s@]+(/\S*)?$", description="http or https address; a certificate is always verified.")
    status: tuple[int, ...] = Field(default=(200,), min_length=1, description="Status codes that are right; default 200.")
    contains: str = Field(default="", description="Text that the first MiB of the body must contain; default anything.")

    @field_validator("status")
    @classmethod
    def _codes(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 100 <= code <= 599 for code in value):
            raise ValueError("a status is a number from 100 to 599")
        return tuple(sorted(set(value)))


class Endpoint(BaseModel):
    """One end of a mail round trip. Its certificate is always verified, because a password is sent."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    host: str = Field(min_length=1, description="Name or address to connect to.")
    port: int = Field(gt=0, lt=65536, description="TCP port.")
    tls: Tls = Field(default="implicit", description="none, starttls, or implicit (TLS from the first byte); default implicit.")
    server_name: str = Field(default="", description="Name that the certificate must be valid for; default the host.")
    username: Text = Field(default="", description="Login; default none.")
    password: Text = Field(default="", description="Password, usually a ${vault(path, key)} reference; default none.")

    @model_validator(mode="after")
    def _sealed(self) -> Self:
        if self.tls == "none" and self.password:
            raise ValueError("a password is sent over TLS only; set tls to starttls or implicit")
        return self

    @property
    def where(self) -> str:
        """The address for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Submission(Endpoint):
    """Where the marked message goes in."""

    port: int = Field(default=465, gt=0, lt=65536, description="TCP port; default 465.")
    sender: str = Field(pattern=r"^[^\s<>@]+@[^\s<>@]+$", description="Envelope and header sender.")
    recipient: str = Field(pattern=r"^[^\s<>@]+@[^\s<>@]+$", description="Envelope and header recipient.")


class Mailbox(Endpoint):
    """Where the marked message comes out."""

    port: int = Field(default=993, gt=0, lt=65536, description="TCP port; default 993.")
    mailbox: str = Field(
        default="INBOX", pattern=r"^[\x20-\x7e]+$", description="Mailbox to look in, in IMAP's own spelling; default INBOX."
    )


class MailRoundtrip(Probe):
    """A marked message that is sent arrives; it is deleted again. It is sent at most every ``every`` seconds."""

    timeout: float = Field(default=60.0, gt=0, le=600, description="Seconds from the login until the message must be found; default 60.")
    every: float = Field(
        default=600.0,
        ge=0,
        description="Seconds for which a good result is kept before the next message is sent; default 600. A bad one is kept 60 at most.",
    )
    smtp: Submission
    imap: Mailbox


KINDS: dict[str, type[Spec]] = {"TCP": Tcp, "SMTP": Smtp, "IMAP": Imap, "DNS": Dns, "HTTP": Http, "MailRoundtrip": MailRoundtrip}
"""Kinds as written in desired state."""
