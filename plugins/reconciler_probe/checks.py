"""The checks without a dialogue: TCP, DNS, HTTP. Each gives a sentence about what it found or raises CheckFailed."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from reconciler_probe.client import CheckFailed, Deadline, Network, judged, readable
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
    """Ask every resolver at the same time and compare whole sets. One that gives no answer makes it unknown, unless it is optional."""
    deadline = network.deadline(spec.timeout)
    contexts = [copy_context() for _ in spec.resolvers]
    with ThreadPoolExecutor(len(spec.resolvers), "resolver") as pool:
        answers = list(pool.map(lambda context, one: context.run(ask, network, spec, one, deadline), contexts, spec.resolvers))
    return verdict(spec, dict(zip(spec.resolvers, answers, strict=True)))


def ask(network: Network, spec: Dns, resolver: str, deadline: Deadline) -> frozenset[str] | CheckFailed:
    """Ask one resolver, after the control where nothing is expected. Gives its whole set, or why there is none to speak of."""
    try:
        if not spec.expected(resolver) and not network.resolve(spec.control, spec.type, resolver, deadline):
            return CheckFailed(f"{resolver} does not know the control {spec.control} either, so absence proves nothing", "unknowable")
        return network.resolve(spec.name, spec.type, resolver, deadline)
    except CheckFailed as error:
        return error


def verdict(spec: Dns, answers: Mapping[str, frozenset[str] | CheckFailed]) -> str:
    """Say of each resolver what it gave. Raises CheckFailed: wrong when one is, else unknowable when one that counts gave no answer."""
    wrong, unknown, told, agreeing, own = list[str](), list[str](), list[str](), list[str](), list[str]()
    for resolver, answer in answers.items():
        expected = frozenset(spec.expected(resolver))
        if isinstance(answer, CheckFailed):
            (told if resolver in spec.optional else unknown).append(str(answer))
        elif answer != expected:
            wrong.append(f"{resolver} gives {difference(answer, expected)}")
        elif resolver in spec.expect_at:
            own.append(f"{resolver} gives its own, {listed(answer)}")
        else:
            agreeing.append(resolver)
    alike = [f"{', '.join(agreeing)} {'agree' if len(agreeing) > 1 else 'is right'}"] if agreeing else []
    right = [*alike, *own, *(f"{one} (optional)" for one in told)]
    said = f"{spec.name} {spec.type}: {'; '.join([*wrong, *unknown, *right])}"
    if wrong:
        raise CheckFailed(said)
    if unknown:
        raise CheckFailed(said, "unknowable")
    return said


def difference(found: frozenset[str], expected: frozenset[str]) -> str:
    """Say how two sets of values differ."""
    if not found:
        return "no record"
    parts = [("without ", expected - found), ("with the unexpected ", found - expected)]
    return " and ".join(word + listed(values) for word, values in parts if values)


def listed(values: Iterable[str]) -> str:
    """Write values for people; no record where there is none."""
    return ", ".join(repr(readable(value)) for value in sorted(values)) or "no record"


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
