"""The structured contents: one model per record type whose content Cloudflare keeps as ``data``. Pure."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from reconciler.resource import JSONObject
from reconciler_cloudflare.values import host, parameters

U8: TypeAlias = Annotated[int, Field(ge=0, le=255)]
U16: TypeAlias = Annotated[int, Field(ge=0, le=65535)]
Host: TypeAlias = Annotated[str, AfterValidator(host)]


def _hex(value: str) -> str:
    digits = "".join(value.split()).lower()
    bytes.fromhex(digits)
    return digits


Hex: TypeAlias = Annotated[str, AfterValidator(_hex)]
Base64: TypeAlias = Annotated[str, AfterValidator(lambda value: "".join(value.split()))]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CAA(_Data):
    """Who may issue certificates (RFC 8659)."""

    flags: U8 = 0
    tag: Annotated[str, AfterValidator(str.lower)]
    value: str


class CERT(_Data):
    """A certificate (RFC 4398)."""

    type: U16
    key_tag: U16
    algorithm: U8
    certificate: Base64


class DNSKEY(_Data):
    """A public key of DNSSEC (RFC 4034 section 2)."""

    flags: U16
    protocol: U8
    algorithm: U8
    public_key: Base64


class DS(_Data):
    """The digest of a child zone's key (RFC 4034 section 5)."""

    key_tag: U16
    algorithm: U8
    digest_type: U8
    digest: Hex


class SVCB(_Data):
    """A service binding (RFC 9460); HTTPS records have the same form."""

    priority: U16
    target: Host
    value: Annotated[str, AfterValidator(parameters)] = ""


class LOC(_Data):
    """A place on earth (RFC 1876); metres, degrees, minutes, seconds."""

    lat_degrees: Annotated[int, Field(ge=0, le=90)]
    lat_minutes: Annotated[int, Field(ge=0, le=59)] = 0
    lat_seconds: Annotated[float, Field(ge=0, le=59.999)] = 0.0
    lat_direction: Literal["N", "S"]
    long_degrees: Annotated[int, Field(ge=0, le=180)]
    long_minutes: Annotated[int, Field(ge=0, le=59)] = 0
    long_seconds: Annotated[float, Field(ge=0, le=59.999)] = 0.0
    long_direction: Literal["E", "W"]
    altitude: Annotated[float, Field(ge=-100000, le=42849672.95)] = 0.0
    size: Annotated[float, Field(ge=0, le=90000000)] = 1.0
    precision_horz: Annotated[float, Field(ge=0, le=90000000)] = 10000.0
    precision_vert: Annotated[float, Field(ge=0, le=90000000)] = 10.0


class NAPTR(_Data):
    """A rule of the naming authority pointer (RFC 3403)."""

    order: U16
    preference: U16
    flags: str = ""
    service: str = ""
    regex: str = ""
    replacement: Host = "."


class SRV(_Data):
    """Where a service is found (RFC 2782)."""

    priority: U16
    weight: U16
    port: U16
    target: Host


class SSHFP(_Data):
    """The fingerprint of an SSH host key (RFC 4255)."""

    algorithm: U8
    type: U8
    fingerprint: Hex


class TLSA(_Data):
    """A certificate association (RFC 6698); SMIMEA records (RFC 8162) have the same form."""

    usage: U8
    selector: U8
    matching_type: U8
    certificate: Hex


class URI(_Data):
    """A mapping to a URI (RFC 7553); its priority stands beside it."""

    weight: U16
    target: str


MODELS: dict[str, type[BaseModel]] = {
    "CAA": CAA,
    "CERT": CERT,
    "DNSKEY": DNSKEY,
    "DS": DS,
    "HTTPS": SVCB,
    "LOC": LOC,
    "NAPTR": NAPTR,
    "SMIMEA": TLSA,
    "SRV": SRV,
    "SSHFP": SSHFP,
    "SVCB": SVCB,
    "TLSA": TLSA,
    "URI": URI,
}
"""The structured types and the form of their data."""


def structured(type: str, data: JSONObject) -> JSONObject:
    """Give canonical data of one structured type. Raises pydantic.ValidationError."""
    return MODELS[type].model_validate(data).model_dump()


def known(type: str, data: Any) -> JSONObject:
    """Keep what the model of ``type`` knows: answers may carry more, such as the service name inside an SRV record."""
    return {key: value for key, value in data.items() if key in MODELS[type].model_fields} if isinstance(data, dict) else {}
