"""The checks without a dialogue: TCP, DNS, HTTP. Each gives a sentence about what it found or raises CheckFailed."""

from reconciler_probe.client import CheckFailed, Network, judged, readable
from reconciler_probe.config import split_address
from reconciler_probe.spec import Dns, Http, Tcp


def check_tcp(network: Network, spec: Tcp) -> str:
    """Check that a port is open, or closed while the control is open."""
    source = spec.proxy_source if spec.proxy == "v2" else ""
    if not spec.expect_closed:
        connect(network, spec.host, spec.port, spec.where, spec.timeout, source)
        return f"{spec.where} is open"
    try:
        connect(network, *split_address(spec.control), spec.control, spec.timeout)
    except CheckFailed as error:
        raise CheckFailed(f"the control does not work, so silence proves nothing: {error}", "unknowable") from None
    try:
        connect(network, spec.host, spec.port, spec.where, spec.timeout, source)
    except CheckFailed as error:
        if error.reason in ("refused", "silent"):
            return f"{error}, as expected; {spec.control} is open"
        raise
    raise CheckFailed(f"{spec.where} is open, but nothing should listen there")


def connect(network: Network, host: str, port: int, where: str, seconds: float, source: str = "") -> None:
    """Open a connection and close it again."""
    deadline = network.deadline(seconds)
    with judged(where, deadline), network.connect(host, port, deadline, source=source):
        pass


def check_dns(network: Network, spec: Dns) -> str:
    """Check that every resolver gives exactly the expected set. One that gives no answer makes the whole unknown, never right."""
    wrong, unknown = [], []
    for resolver in spec.resolvers:
        try:
            found = ask(network, spec, resolver)
        except CheckFailed as error:
            unknown.append(str(error))
            continue
        if found != frozenset(spec.expect):
            wrong.append(f"{resolver} gives {difference(found, frozenset(spec.expect))}")
    if wrong:
        raise CheckFailed(f"{spec.name} {spec.type}: " + "; ".join(wrong + unknown))
    if unknown:
        raise CheckFailed(f"{spec.name} {spec.type}: " + "; ".join(unknown), "unknowable")
    return f"{spec.name} {spec.type}: {', '.join(spec.resolvers)} agree"


def ask(network: Network, spec: Dns, resolver: str) -> frozenset[str]:
    """Ask one resolver, after the control where nothing is expected."""
    if spec.control and not network.resolve(spec.control, spec.type, resolver, network.deadline(spec.timeout)):
        raise CheckFailed(f"{resolver} does not know the control {spec.control} either, so absence proves nothing", "unknowable")
    return network.resolve(spec.name, spec.type, resolver, network.deadline(spec.timeout))


def difference(found: frozenset[str], expected: frozenset[str]) -> str:
    """Say how two sets of values differ."""
    if not found:
        return "no record"
    parts = [("without ", expected - found), ("with the unexpected ", found - expected)]
    return " and ".join(word + ", ".join(repr(readable(value)) for value in sorted(values)) for word, values in parts if values)


def check_http(network: Network, spec: Http) -> str:
    """Check the status and the text of a page."""
    deadline = network.deadline(spec.timeout)
    with judged(spec.url, deadline):
        status, body = network.get(spec.url, deadline)
    if status not in spec.status:
        raise CheckFailed(f"{spec.url} answered {status} instead of {' or '.join(map(str, spec.status))}")
    if spec.contains not in body:
        raise CheckFailed(f"{spec.url} answered {status} without {spec.contains!r} in its text")
    return f"{spec.url} answered {status}"
