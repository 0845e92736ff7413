"""What a pfSense resource wants, in canonical form. Pure: no I/O, no vendor library, nothing of the file format (that is ``native``)."""

from ipaddress import ip_network
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from reconciler.resource import ResourceId, Spec
from reconciler_pfsense.fields import (
    DRIVER,
    SERVER_NAME,
    Address,
    AliasName,
    Line,
    Milliseconds,
    Named,
    Part,
    Place,
    Port,
    ProxyName,
    Word,
    aliases_in,
    check_families,
    named,
    normal_address,
    normal_port,
    port_of,
    tokens_without,
)

REDISPATCH = "option redispatch"


class AliasAddress(Part):
    """One entry of an alias."""

    address: Word = Field(description="an address, network, host name, port or another alias, as the alias's type asks for")
    detail: Line = Field(default="", description="what this entry is, for people")


AliasType: TypeAlias = Literal["host", "network", "port"]


def normal_entry(kind: str, text: str) -> str:
    """Give one spelling for an entry of an alias: ports as ``a:b``, networks with their prefix length."""
    if kind == "port":
        return normal_port(text, ":")
    text = normal_address(text)
    try:
        return str(ip_network(text)) if kind == "network" else text
    except ValueError:
        return text


class Alias(Named):
    """A named set of hosts, networks or ports, for use in rules, forwards and frontends. The order of its entries has no meaning."""

    name: AliasName = Field(default="", validate_default=True, description="name in pfSense; default metadata.name")
    type: AliasType = Field(description="what the entries are")
    addresses: tuple[AliasAddress, ...] = Field(description="the entries: texts, or {address, detail}")
    description: Line = Field(default="", description="for people; the mark is written before it")

    @model_validator(mode="before")
    @classmethod
    def _plain_entries(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("addresses"), list | tuple):
            entries = [{"address": str(entry)} if isinstance(entry, str | int) else entry for entry in data["addresses"]]
            return {**data, "addresses": entries}
        return data

    @model_validator(mode="after")
    def _canonical(self) -> Self:
        entries = sorted((normal_entry(self.type, entry.address), entry.detail) for entry in self.addresses)
        for address, detail in entries:
            if not address or any(letter.isspace() for letter in address):
                raise ValueError(f"{address!r} is not one entry; pfSense separates entries by blanks")
            if "||" in detail:
                raise ValueError(f"the detail of {address} must not contain ||, which pfSense separates details with")
        if len({address for address, _ in entries}) != len(entries):
            raise ValueError("an address is listed twice")
        object.__setattr__(self, "addresses", tuple(AliasAddress(address=address, detail=detail) for address, detail in entries))
        return self

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Name the aliases nested in this one."""
        return aliases_in(*(entry.address for entry in self.addresses))


class PortForward(Spec):
    """A port forward with, unless told otherwise, the linked pass rule that lets its traffic in. Both live and die together."""

    interface: Word = Field(default="wan", min_length=1, description="interface where the traffic arrives: wan, lan, opt1 ...")
    ipprotocol: Literal["inet", "inet6"] = Field(default="inet", description="IPv4 or IPv6")
    protocol: Literal["tcp", "udp", "tcp/udp"] = Field(default="tcp", description="protocol to forward")
    source: Address = Field(default="any", min_length=1, description="who may use it: any, an address, a network, an alias; ! negates")
    destination: Address = Field(default="wanip", min_length=1, description="address that is called: wanip, any, an address, an alias")
    port: Port = Field(min_length=1, description="port that is called: a number, a range a-b, or a port alias")
    target: Place = Field(min_length=1, description="where to: an address or a host alias")
    target_port: Port = Field(default="", description="first port there; default the called one")
    description: Line = Field(default="", description="for people; the mark is written before it")
    disabled: bool = Field(default=False, description="keep the forward and its rule, but not in force")
    pass_rule: bool | Literal["edited"] = Field(
        default=True,
        description="keep a linked pass rule; edited leaves one as somebody changed it, which is also how such a rule is reported",
    )

    @model_validator(mode="after")
    def _target_port(self) -> Self:
        if not self.target_port:
            object.__setattr__(self, "target_port", self.port.partition("-")[0])
        if "-" in self.target_port:
            raise ValueError(f"target_port is the first port of the range, so write {self.target_port.partition('-')[0]}")
        check_families(self.ipprotocol, self.source, self.destination, self.target)
        return self

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Name the aliases it uses."""
        return aliases_in(self.source, self.destination, self.port, self.target, self.target_port)


class FirewallRule(Spec):
    """A filter rule. New rules go to the end of the list; where they stand there afterwards is not changed."""

    action: Literal["pass", "block", "reject"] = Field(default="pass", description="what to do with the traffic")
    interface: Word = Field(min_length=1, description="interface where the traffic arrives: wan, lan, opt1 ...")
    ipprotocol: Literal["inet", "inet6", "inet46"] = Field(default="inet", description="IPv4, IPv6 or both")
    protocol: Literal["any", "tcp", "udp", "tcp/udp", "icmp", "esp", "ah", "gre"] = Field(default="any", description="protocol")
    source: Address = Field(default="any", min_length=1, description="any, an address, a network, an alias, lan, lanip; ! negates")
    source_port: Port = Field(default="", description="a port, a range a-b or a port alias; empty is any")
    destination: Address = Field(default="any", min_length=1, description="as source")
    destination_port: Port = Field(default="", description="as source_port")
    description: Line = Field(default="", description="for people; the mark is written before it")
    disabled: bool = Field(default=False, description="keep the rule, but not in force")
    log: bool = Field(default=False, description="log what the rule matches")

    @model_validator(mode="after")
    def _ports_need_a_protocol(self) -> Self:
        if (self.source_port or self.destination_port) and self.protocol not in ("tcp", "udp", "tcp/udp"):
            raise ValueError(f"protocol {self.protocol} has no ports; pfSense would drop them and match everything")
        check_families(self.ipprotocol, self.source, self.destination)
        return self

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Name the aliases it uses."""
        return aliases_in(self.source, self.source_port, self.destination, self.destination_port)


class Server(Part):
    """One server of a HAProxy backend."""

    name: ProxyName = Field(min_length=2, description="name inside the backend, two letters or more")
    address: Word = Field(min_length=1, description="address or host name; a name is resolved when the file is rendered")
    port: int = Field(ge=1, le=65535, description="TCP port")
    weight: int = Field(default=1, ge=0, le=256, description="share of the connections")
    status: Literal["active", "backup", "disabled", "inactive"] = Field(default="active", description="inactive leaves it out of the file")
    send_proxy: Literal["none", "v1", "v2"] = Field(default="none", description="send the client's address in a PROXY header")
    check_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="another port for the checks; without it a check on a send_proxy server sends the header to the service",
    )
    advanced: Annotated[Word, AfterValidator(tokens_without("send-proxy", "send-proxy-v2", "port"))] = Field(
        default="", description="more server keywords of HAProxy"
    )


CHECKS: dict[str, str] = {"none": "none", "basic": "Basic", "http": "HTTP", "smtp": "SMTP", "esmtp": "ESMTP", "ssl": "SSL"}
"""The names of the checks here and in config.xml (package haproxy, ``haproxy_utils.inc``)."""


class HAProxyBackend(Named):
    """A HAProxy backend. The package renders it only while an active frontend uses it."""

    name: ProxyName = Field(default="", validate_default=True, description="name in pfSense; default metadata.name")
    servers: tuple[Server, ...] = Field(default=(), description="where to send connections, in order")
    check: Literal["none", "basic", "http", "smtp", "esmtp", "ssl"] = Field(default="basic", description="health check; basic is a connect")
    check_uri: Word = Field(default="", description="for http: what to ask for; empty is the package's own default")
    check_domain: Word = Field(default="", description="for smtp and esmtp: the name to greet with")
    check_interval: Milliseconds = Field(default=1000, description="milliseconds between checks")
    connect_timeout: Milliseconds = Field(default=30000, description="milliseconds to wait for a server to accept")
    server_timeout: Milliseconds = Field(default=30000, description="milliseconds a server may be silent; IMAP IDLE needs 1800000 or more")
    balance: Literal["roundrobin", "static-rr", "leastconn", "source", "uri"] = Field(default="roundrobin", description="algorithm")
    redispatch: bool = Field(default=True, description="let a connection go to another server when the chosen one does not answer")
    retries: int = Field(default=3, ge=1, description="connection attempts after the first")
    advanced: str = Field(default="", description="more lines for the backend section")

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if (self.check in ("smtp", "esmtp")) != bool(self.check_domain):
            raise ValueError("check_domain goes with the checks smtp and esmtp: HAProxy refuses them without it, and no other uses it")
        if self.check_uri and self.check != "http":
            raise ValueError("check_uri goes with the check http only")
        names = [server.name for server in self.servers]
        if len(set(names)) != len(names):
            raise ValueError("two servers have the same name")
        object.__setattr__(self, "advanced", _pass_through(self.advanced))
        return self


def _pass_through(text: str) -> str:
    """Give lines without blanks at their ends, and refuse those that have a field or a meaning of their own."""
    lines = [line.strip() for line in text.strip().splitlines()]
    for line in lines:
        if line == REDISPATCH or line.startswith("# reconciler:"):
            raise ValueError(f"{line!r} is written by this program; remove it from advanced")
    return "\n".join(lines)


def normal_bind_port(text: str) -> str:
    """Give a list of ports in one spelling."""
    return ",".join(part.strip() for part in text.split(","))


def _bind_port(value: Any) -> Any:
    """Accept a number, a list or a port alias; the package has no ranges here."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    text = normal_bind_port(str(value))
    for part in text.split(","):
        if "-" in part or ":" in part:
            raise ValueError(f"{part!r} is a range, which a frontend does not take; list the ports or use a port alias")
        port_of(part)
    return text


class Bind(Part):
    """One address that a frontend listens on."""

    address: Place = Field(min_length=1, description="an address, an alias, or one of the package's names: any_ipv4, lan_ipv4 ...")
    port: Annotated[str, BeforeValidator(_bind_port)] = Field(min_length=1, description="a port, a list a,b or a port alias")
    advanced: Word = Field(default="", description="more bind keywords of HAProxy, such as accept-proxy")


ServerName: TypeAlias = Annotated[
    str,
    AfterValidator(str.lower),
    AfterValidator(named(SERVER_NAME, "a host name, or one behind *. for every name below it")),
]


class Route(Part):
    """Where connections go that ask for one of some names by TLS (SNI); what they carry is not decrypted."""

    names: tuple[ServerName, ...] = Field(min_length=1, description="names that clients ask for; *.example.org is every name below it")
    backend: ProxyName = Field(description="the backend that takes those connections")

    @model_validator(mode="after")
    def _canonical(self) -> Self:
        object.__setattr__(self, "names", tuple(sorted(set(self.names))))
        return self


class HAProxyFrontend(Named):
    """A HAProxy frontend: everything to one backend, or by the name that a TLS client asks for."""

    name: ProxyName = Field(default="", validate_default=True, description="name in pfSense; default metadata.name")
    binds: tuple[Bind, ...] = Field(min_length=1, description="where to listen")
    type: Literal["tcp", "http", "https"] = Field(default="tcp", description="https passes TLS through by TCP")
    default_backend: Literal[""] | ProxyName = Field(
        default="", description="the backend that takes the connections, those whose name no route has; without one they are refused"
    )
    routes: tuple[Route, ...] = Field(
        default=(), description="backends by the name that a client asks for, for type https; the first that fits is taken"
    )
    client_timeout: Milliseconds = Field(default=30000, description="milliseconds a client may be silent; IMAP IDLE needs 1800000 or more")
    status: Literal["active", "disabled"] = Field(default="active", description="a disabled frontend is left out of the file")
    description: Line = Field(default="", description="for people; the mark is written before it")

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if not self.default_backend and not self.routes:
            raise ValueError("give default_backend, routes, or both: a frontend leads somewhere")
        if self.routes and self.type != "https":
            raise ValueError(f"routes need type https: pfSense leaves rules for names out of a frontend of type {self.type}")
        for what, given in (
            ("backend", [route.backend for route in self.routes]),
            ("name", [name for route in self.routes for name in route.names]),
        ):
            if twice := sorted({one for one in given if given.count(one) > 1}):
                raise ValueError(f"the {what} {twice[0]} stands in two routes; put it into one")
        return self

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Name its backends, the settings, and the aliases it listens on."""
        names = (self.default_backend, *(route.backend for route in self.routes))
        backends = (ResourceId(DRIVER, "HAProxyBackend", name) for name in names if name)
        binds = (text for bind in self.binds for text in (bind.address, bind.port))
        return (*backends, ResourceId(DRIVER, "HAProxySettings", "haproxy"), *aliases_in(*binds))


class HAProxySettings(Spec):
    """The settings of the HAProxy package: one per firewall, always there, so it is adopted without asking and never deleted."""

    enabled: bool = Field(default=True, description="run HAProxy")
    maxconn: int | None = Field(default=None, ge=1, description="connections of the whole process; none is HAProxy's own default")
    nbthread: int = Field(default=1, ge=1, le=64, description="threads")
    hard_stop_after: Word = Field(
        default="15m", min_length=1, description="how long an old process may keep its sessions after a reload, such as 15m"
    )


KINDS: dict[str, type[Spec]] = {
    "Alias": Alias,
    "FirewallRule": FirewallRule,
    "HAProxyBackend": HAProxyBackend,
    "HAProxyFrontend": HAProxyFrontend,
    "HAProxySettings": HAProxySettings,
    "PortForward": PortForward,
}
