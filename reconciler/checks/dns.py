"""Where mail goes: MX records and the names they lead to (RFC 5321 5.1, RFC 7505), aliases among names, and sizes. Pure."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

from reconciler.checks.findings import Finding, error, info, warning
from reconciler.checks.view import MAIL_PORTS, Item, MailView, Record

TOGETHER = 8192
"""Characters that the records of one name and type may have together at the provider."""

PRIVATE = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip


def cname_alone(view: MailView) -> Iterator[Finding]:
    """A CNAME answers for its whole name. One that the provider answers with addresses (the apex, or proxied) is none to the world."""
    for record in view.records:
        if record.type == "CNAME" and not record.proxied and record.name != record.zone:
            beside = [one for one in view.records if one.name == record.name and one.id != record.id]
            if beside:
                names = ", ".join(f"{one.type} {one.id}" for one in beside)
                yield error("cname-alone", record.id, f"stands at {record.name} beside {names}; give one of them another name")


def mx_target(view: MailView) -> Iterator[Finding]:
    """An MX leads to an address of a host, not to an alias and not to a web proxy."""
    for record in view.records:
        if record.type == "MX" and record.content != ".":
            yield from _host(view, record)


def _host(view: MailView, mx: Record) -> Iterator[Finding]:
    host = mx.content
    for one in (*view.at("A", host), *view.at("AAAA", host), *view.at("CNAME", host)):
        if one.proxied:
            yield error("mx-target", one.id, f"{host} is the target of {mx.id} and proxied; a web proxy does not take mail: proxied: false")
        if one.type == "CNAME":
            yield error("mx-target", one.id, f"{host} is the target of {mx.id} and must have addresses, not a CNAME")
        elif is_address(one.content) and any(ip_address(one.content) in network for network in PRIVATE):
            yield error("mx-target", one.id, f"{one.content} is the address of a mail host and cannot be reached from outside")
    answers = [view.lookup(host, type) for type in ("A", "AAAA", "CNAME")]
    if answers[:2] == [(), ()]:
        yield error("mx-target", mx.id, f"{host} has no address" + (", but a CNAME" if answers[2] else ""))
    elif not any(answers):
        yield info("mx-target", mx.id, f"whether {host} has an address is unknown here")


def null_mx(view: MailView) -> Iterator[Finding]:
    """A null MX says that a name takes no mail."""
    for record in view.records:
        if record.type == "MX" and record.content == ".":
            if len(view.at("MX", record.name)) > 1:
                yield error("null-mx", record.id, f"says that {record.name} takes no mail, beside another MX that says where to bring it")
            if record.priority:
                yield warning("null-mx", record.id, f"has the preference {record.priority}; write 0")


def mx_path(view: MailView) -> Iterator[Finding]:
    """When the stack forwards mail ports, too, each family of addresses needs its way in."""
    forwards = view.items["PortForward"]
    rules = [one for one in view.items["FirewallRule"] if one.data.get("interface") != "lan"]
    if not any(covers(str(one.data["port"]), port) for one in forwards for port in MAIL_PORTS):
        return
    hosts = sorted({record.content for record in view.records if record.type == "MX"})
    for host in hosts:
        for record in (*view.at("A", host), *view.at("AAAA", host)):
            family = "inet" if record.type == "A" else "inet6"
            open_ = any(_lets_in(one, record.content, family, "port") for one in forwards)
            open_ = open_ or any(_lets_in(one, record.content, family, "destination_port") for one in rules)
            if not open_:
                message = f"{record.content} is an address of the MX {host}, and nothing lets {family} in on port 25 for it"
                yield error("mx-path", record.id, f"{message}; add the way or take the address out")


def _lets_in(item: Item, address: str, family: str, port_field: str) -> bool:
    data = item.data
    destination = str(data["destination"])
    named = destination == address or not is_address(destination)
    families = str(data.get("ipprotocol", "inet"))
    passes = data.get("action", "pass") == "pass" and not data.get("disabled", False)
    return passes and named and families in (family, "inet46") and covers(str(data.get(port_field, "")), 25)


def is_address(text: str) -> bool:
    """Say whether a text is an IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def covers(ports: str, port: int) -> bool:
    """Say whether a port, a range ``a-b``, an alias or nothing (any) lets ``port`` in; of an alias it is assumed."""
    first, _, last = ports.partition("-")
    if not first.isdecimal():
        return True
    return int(first) <= port <= int(last or first)


def dane(view: MailView) -> Iterator[Finding]:
    """Without DNSSEC a TLSA record is ignored, at best."""
    signed = {one.zone for one in view.records if one.type in ("DS", "DNSKEY")}
    for record in view.records:
        mail = record.type == "TLSA" and record.name.startswith("_25._tcp.")
        if mail and record.zone not in signed and not view.lookup(record.zone, "DS"):
            yield warning("dane-dnssec", record.id, f"whether {record.zone} is signed is unknown here; unsigned, it proves nothing")


def size(view: MailView) -> Iterator[Finding]:
    """The provider adds up what stands at one place."""
    for place in sorted({(one.type, one.name) for one in view.records}):
        records = view.at(*place)
        total = sum(len(one.content) for one in records)
        if total > TOGETHER:
            yield error(
                "record-size", records[-1].id, f"the {place[0]} records of {place[1]} have {total} characters of at most {TOGETHER}"
            )


RULES: tuple[Callable[[MailView], Iterator[Finding]], ...] = (cname_alone, mx_target, null_mx, mx_path, dane, size)
