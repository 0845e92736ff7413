"""What pfSense makes of its configuration: haproxy.cfg and the lines of the rules file that come from users. Pure.

Byte for byte what the package and ``filter.inc`` of pfSense 2.8 write for TCP frontends, aliases, forwards and filter rules.
"""

import base64
import binascii
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from reconciler_pfsense.emulator.configfile import Config, at, listed

HAPROXY = "installedpackages/haproxy"
_HEAD = """\
# Automaticaly generated, dont edit manually.
# Generated on: {now}
global
{maxconn}\tstats socket /tmp/haproxy.socket level admin  expose-fd listeners
\tuid\t\t\t80
\tgid\t\t\t80
\tnbthread\t\t\t{nbthread}
\thard-stop-after\t\t{hard_stop_after}
\tchroot\t\t\t\t/tmp/haproxy_chroot
\tdaemon
\tserver-state-file /tmp/haproxy_server_state

"""
_SNI = {
    "ssl_sni_matches": "",
    "ssl_sni_contains": " -m sub",
    "ssl_sni_starts_with": " -m beg",
    "ssl_sni_ends_with": " -m end",
    "ssl_sni_regex": " -m reg",
}
"""What the package makes of its expressions about the name that a client asks for."""
_FRONTEND_OPTIONS = (("dontlognull", "dontlognull"), ("log-detailed", "tcplog"))


def entries(value: Any) -> list[Config]:
    """Give the items below a wrapper tag."""
    found = value.get("item") if isinstance(value, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def haproxy_cfg(config: Config, now: datetime) -> str:
    """Render haproxy.cfg: active frontends in their order, then the backends that they use, each once."""
    settings = at(config, HAPROXY) or {}
    pools = {pool.get("name"): pool for pool in entries(settings.get("ha_pools"))}
    active = [one for one in entries(settings.get("ha_backends")) if one.get("status") == "active"]
    head = _HEAD.format(
        now=f"{now:%Y-%m-%d %H:%M}",
        maxconn=f"\tmaxconn\t\t\t{settings['maxconn']}\n" if settings.get("maxconn") else "",
        nbthread=settings.get("nbthread") or 1,
        hard_stop_after=settings.get("hard_stop_after") or "15m",
    )
    used: dict[str, str] = {}
    for frontend in active:
        for name in pools_of(frontend):
            used.setdefault(name, frontend.get("type", ""))
    sections = [
        *("".join(_frontend(config, one)) for one in active),
        *("".join(_backend(pools[name], mode)) for name, mode in used.items() if name in pools),
    ]
    return head + "\n".join(sections) + "\n\n"


def pools_of(frontend: Config) -> list[str]:
    """Name the backends that a frontend leads to, the default one last."""
    chosen = [one.get("use_backendbackend", "") for one in entries(frontend.get("a_actionitems")) if one.get("action") == "use_backend"]
    return [name for name in (*chosen, frontend.get("backend_serverpool", "")) if name]


def _mode(kind: str) -> str:
    return "http" if kind == "http" else "tcp"


def _frontend(config: Config, item: Config) -> Iterator[str]:
    yield f"frontend {item['name']}\n"
    for bind in entries(item.get("a_extaddr")):
        for address in _addresses(config, bind):
            for port in _ports(config, bind.get("extaddr_port", "")):
                yield f"\tbind\t\t\t{address}:{port} name {address}:{port}   {bind.get('extaddr_advanced', '')}\n"
    yield f"\tmode\t\t\t{_mode(item.get('type', ''))}\n\tlog\t\t\tglobal\n"
    for key, option in _FRONTEND_OPTIONS:
        if item.get(key):
            yield f"\toption\t\t\t{option}\n"
    if item.get("type") == "http":
        yield from _http_lines(item)
    if item.get("max_connections"):
        yield f"\tmaxconn\t\t\t{item['max_connections']}\n"
    yield f"\ttimeout client\t\t{item.get('client_timeout') or 30000}\n"
    yield _base64_lines(item.get("advanced", ""))
    if item.get("type") == "https":
        yield from _sni_lines(item)
    if item.get("backend_serverpool"):
        yield f"\tdefault_backend {item['backend_serverpool']}_ipvANY\n"


def _http_lines(item: Config) -> Iterator[str]:
    if item.get("httpclose"):
        yield f"\toption\t\t\t{item['httpclose']}\n"
    if item.get("forwardfor"):
        yield "\toption\t\t\tforwardfor\n\tacl https ssl_fc\n"
        for scheme, condition in (("http", "!https"), ("https", "https")):
            yield f"\thttp-request set-header\t\tX-Forwarded-Proto {scheme} if {condition}\n"


def _sni_lines(item: Config) -> Iterator[str]:
    """Render the rules that read the name a client asks for by TLS; the package leaves them out of frontends of another type."""
    rules = [one for one in entries(item.get("ha_acls")) if one.get("expression") in _SNI]
    if rules:
        yield "\ttcp-request inspect-delay\t5s\n"
    lines = (f"\tacl\t\t\t{one['name']}\treq.ssl_sni{_SNI[one['expression']]}{_case(one)} {one.get('value', '')}\n" for one in rules)
    yield from dict.fromkeys(lines)
    if rules:
        yield "\ttcp-request content accept if { req.ssl_hello_type 1 }\n"
    for action in entries(item.get("a_actionitems")):
        if action.get("action") == "use_backend" and action.get("acl"):
            names = "".join(f" {_negated(name, item)}{name}" for name in action["acl"].split(" "))
            yield f"\tuse_backend {action['use_backendbackend']}_ipvANY  if {names} \n"


def _case(rule: Config) -> str:
    return "" if rule.get("casesensitive") == "yes" else " -i"


def _negated(name: str, item: Config) -> str:
    return "!" if any(one.get("name") == name and one.get("not") == "yes" for one in entries(item.get("ha_acls"))) else ""


def _addresses(config: Config, bind: Config) -> list[str]:
    """Resolve where a bind listens: everywhere, when the word is not one that the package knows."""
    place = bind.get("extaddr", "")
    if place == "custom":
        words = expand(config, bind.get("extaddr_custom", ""))
        return words or [bind.get("extaddr_custom", "")]
    if place in ("any_ipv4", "localhost_ipv4", "any_ipv6", "localhost_ipv6"):
        return [{"any_ipv4": "0.0.0.0", "localhost_ipv4": "127.0.0.1", "any_ipv6": "::", "localhost_ipv6": "::1"}[place]]  # noqa: S104
    return [at(config, f"interfaces/{place.removesuffix('_ipv4')}/ipaddr") or "*"]


def _ports(config: Config, text: str) -> list[str]:
    """Expand aliases and lists, and join neighbours to ranges."""
    words = [word for part in text.split(",") for word in (expand(config, part.strip()) or [part.strip()])]
    groups: list[list[int]] = []
    for word in words:
        if not word.isdigit():
            return [one.replace(":", "-") for one in words]
        if groups and groups[-1][-1] + 1 == int(word):
            groups[-1].append(int(word))
        else:
            groups.append([int(word)])
    return [f"{group[0]}-{group[-1]}" if len(group) > 1 else str(group[0]) for group in groups]


def _base64_lines(value: str) -> str:
    """Decode a pass-through field; only its first line is indented by the package."""
    if not value:
        return ""
    try:
        return "\t" + base64.b64decode(value).decode("utf-8", "replace") + "\n"
    except binascii.Error:
        return f"\t{value}\n"


def _backend(pool: Config, kind: str) -> Iterator[str]:
    yield f"backend {pool['name']}_ipvANY\n\tmode\t\t\t{_mode(kind)}\n"
    if str(pool.get("id", "")).isdigit():
        yield f"\tid\t\t\t{pool['id']}\n"
    yield "\tlog\t\t\tglobal\n"
    if pool.get("balance"):
        yield f"\tbalance\t\t\t{pool['balance']}\n"
    yield f"\ttimeout connect\t\t{pool.get('connection_timeout') or 30000}\n"
    yield f"\ttimeout server\t\t{pool.get('server_timeout') or 30000}\n"
    yield f"\tretries\t\t\t{pool.get('retries') or 3}\n"
    yield _check_option(pool)
    yield _base64_lines(pool.get("advanced_backend", ""))
    extra = _base64_lines(pool.get("advanced", "")).strip()
    for server in entries(pool.get("ha_servers")):
        if server.get("status") != "inactive":
            yield _server(pool, server, f" {extra}" if extra else "")


def _check_option(pool: Config) -> str:
    match pool.get("check_type"):
        case "HTTP":
            words = pool.get("httpcheck_method", ""), pool.get("monitor_uri") or "/", pool.get("monitor_httpversion", "")
            return f"\toption\t\t\thttpchk {' '.join(words)}\n"
        case "SMTP":
            return f"\toption\t\t\tsmtpchk HELO {pool.get('monitor_domain', '')}\n"
        case "ESMTP":
            return f"\toption\t\t\tsmtpchk EHLO {pool.get('monitor_domain', '')}\n"
        case "SSL":
            return "\toption\t\t\tssl-hello-chk\n"
    return ""


def _server(pool: Config, server: Config, extra: str) -> str:
    id = f" id {server['id']}" if str(server.get("id", "")).isdigit() else ""
    check = "" if pool.get("check_type") == "none" else f" check inter {pool.get('checkinter') or 1000}"
    status = "" if server.get("status") == "active" else server.get("status", "")
    weight = f" weight {server['weight']}" if server.get("weight") else ""
    maxconn = f" maxconn {server['maxconn']}" if server.get("maxconn") else ""
    place = f"{server.get('name')} {server.get('address')}:{server.get('port')}"
    return f"\tserver\t\t\t{place}{id}{check} {status}{weight}{maxconn}{extra} {server.get('advanced', '')}\n"


# -- pf ----------------------------------------------------------------------------------------------------------------------------


def expand(config: Config, name: str, trail: tuple[str, ...] = ()) -> list[str]:
    """Give the entries of an alias, nested ones included; nothing when there is no such alias."""
    for alias in listed(config, "aliases/alias"):
        if alias.get("name") == name and name not in trail:
            words = str(alias.get("address", "")).split()
            return [entry for word in words for entry in (expand(config, word, (*trail, name)) or [word])]
    return []


def rules(config: Config) -> str:
    """Render the lines of the rules file that come from users: alias tables, forwards, filter rules, and what was skipped."""
    lines = [*_alias_lines(config), "no nat proto carp", "no rdr proto carp"]
    lines += [line for rule in listed(config, "nat/rule") for line in _rdr(config, rule)]
    lines += [line for rule in listed(config, "filter/rule") for line in _filter(config, rule)]
    return "\n".join(lines) + "\n"


def _alias_lines(config: Config) -> Iterator[str]:
    for alias in sorted(listed(config, "aliases/alias"), key=lambda one: str(one.get("name"))):
        inner = "".join(f"  {word}" for word in expand(config, alias["name"]))
        if alias.get("type") == "port":
            yield f'{alias["name"]} = "{{ {inner} }}"'
        else:
            yield f"table <{alias['name']}> {{ {inner} }} "
            yield f'{alias["name"]} = "<{alias["name"]}>"'


def _end(config: Config, side: Any) -> str:
    """Render an address; empty when it names something that does not exist."""
    side = side if isinstance(side, dict) else {"any": ""}
    sign = "! " if "not" in side else ""
    if "any" in side:
        return "any"
    network, address = side.get("network", ""), side.get("address", "")
    if network == "(self)":
        return f"{sign}(self)"
    if network.endswith("ip"):
        return sign + str(at(config, f"interfaces/{network[:-2]}/ipaddr") or "")
    if network:
        return f"{sign}${network.upper()}__NETWORK"
    return sign + _word(config, address) if _word(config, address) else ""


def _word(config: Config, text: str) -> str:
    """Render an address or port that may be an alias: ``$name``."""
    if any(alias.get("name") == text for alias in listed(config, "aliases/alias")):
        return f"${text}"
    return text if text[:1].isdigit() or ":" in text or "." in text else ""


def _rdr(config: Config, rule: Config) -> Iterator[str]:
    if "disabled" in rule:
        return
    source, destination = _end(config, rule.get("source")), _end(config, rule.get("destination"))
    target = _word(config, str(rule.get("target", "")))
    port, local = str(at(rule, "destination/port") or ""), str(rule.get("local-port", ""))
    if not (source and destination and target):
        return
    interface = at(config, f"interfaces/{rule.get('interface')}/if")
    called = f" port {_word(config, port).replace('-', ':')}" if port else ""
    there = f" port {_word(config, local)}" if local and local != port.partition("-")[0] else ""
    family = rule.get("ipprotocol") or "inet"
    yield f"rdr on {interface} {family} proto {_proto(rule)} from {source} to {destination}{called} -> {target}{there}"


def _proto(rule: Config) -> str:
    return "{ tcp udp }" if rule.get("protocol") == "tcp/udp" else str(rule.get("protocol"))


def label(text: str) -> str:
    """Cut a label to the 63 bytes that pf allows."""
    raw = f"USER_RULE: {text}".replace('"', "").encode()
    return (raw if len(raw) <= 63 else raw[:60] + b"...").decode("utf-8", "replace")


def _filter(config: Config, rule: Config) -> Iterator[str]:
    if "disabled" in rule:
        return
    name = str(rule.get("descr", ""))
    for which in ("source", "destination"):
        side = rule.get(which)
        if not _end(config, side):
            address = side.get("address") or side.get("network") if isinstance(side, dict) else ""
            yield f"# Unresolvable {which} alias '{address}' for rule '{name}' label \"{label(name)}\""
            return
    families = ("inet", "inet6") if rule.get("ipprotocol") == "inet46" else (rule.get("ipprotocol") or "inet",)
    for family in families:
        yield _filter_line(config, rule, family)


def _filter_line(config: Config, rule: Config, family: str) -> str:
    action, protocol = rule.get("type") or "pass", rule.get("protocol")
    verb = {"pass": "pass ", "block": "block", "reject": "block return"}.get(action, action)
    proto = f" proto {_proto(rule)} " if protocol else ""
    ends = (_end(config, rule.get(which)) + _port_word(config, rule.get(which)) for which in ("source", "destination"))
    log = " log" if "log" in rule else ""
    head = f"{verb} in{log}  quick  on ${str(rule.get('interface')).upper()} {family}{proto} from {' to '.join(ends)}"
    flags = " flags S/SA" if protocol == "tcp" and action == "pass" else ""
    state = " keep state" if action == "pass" else ""
    tracker = rule.get("tracker", "")
    return f'{head} ridentifier {tracker}{flags}{state} label "{label(str(rule.get("descr", "")))}" label "id:{tracker}"'


def _port_word(config: Config, side: Any) -> str:
    port = str(side.get("port") or "") if isinstance(side, dict) else ""
    return f" port {_word(config, port).replace('-', ':')}" if port else ""
