"""config.xml as pfSense reads and writes it, quirks included. Pure.

Contract: ``xmlparse.inc`` and ``write_config`` of pfSense 2.8. Text is written as HTML entities, also inside CDATA; a tag that is not
CDATA then may hold an entity that XML does not know, and such a file cannot be read again.
"""

import html
from html.entities import codepoint2name
from typing import Any, TypeAlias
from xml.etree import ElementTree

Config: TypeAlias = dict[str, Any]

LIST_TAGS = frozenset(
    (
        "alias",
        "ca",
        "cert",
        "gateway_item",
        "group",
        "item",
        "key",
        "member",
        "package",
        "priv",
        "row",
        "rule",
        "service",
        "user",
        "vip",
        "vlan",
    )
)
CDATA_TAGS = (
    "aclname",
    "auth_pass",
    "auth_prompt",
    "auth_user",
    "certca",
    "certname",
    "city",
    "common_name",
    "descr",
    "detail",
    "email",
    "encryption_password",
    "hint",
    "ldap_attr",
    "ldap_authcn",
    "ldap_basedn",
    "ldap_basedomain",
    "ldap_bind",
    "ldapbinddn",
    "ldapbindpass",
    "ldap_extended_query",
    "ldap_filter",
    "ldap_pam_groupdn",
    "ldap_pass",
    "ldap_user",
    "login_banner",
    "organization",
    "password",
    "proxypass",
    "proxyuser",
    "rangedescr",
    "state",
    "text",
    "username",
    "varusersusername",
    "varuserspassword",
)


class Unreadable(ValueError):
    """The file cannot be parsed; pfSense would restore a backup."""


def parse(text: str) -> Config:
    """Read a configuration. Raises Unreadable."""
    try:
        root = ElementTree.fromstring(text.replace('<?xml version="1.0"?>', "", 1))  # noqa: S314 - written by this emulator or its user
    except ElementTree.ParseError as error:
        raise Unreadable(str(error)) from None
    value = _value(root)
    return value if isinstance(value, dict) else {}


def _value(element: ElementTree.Element) -> Any:
    if not len(element):
        text = (element.text or "").strip("\t\r\n")
        text = text if text.strip() else ""
        return html.unescape(text) if element.tag.startswith(CDATA_TAGS) else text
    result: Config = {}
    for child in element:
        tag, value = child.tag.lower(), _value(child)
        if tag in LIST_TAGS:
            result.setdefault(tag, []).extend([value] if value != "" else [])
        elif tag in result:
            raise Unreadable(f"tag {tag} stands twice")
        else:
            result[tag] = value
    return result


def entities(text: str) -> str:
    """Write every letter that has an HTML 4.01 name by that name."""
    return "".join("&#039;" if letter == "'" else _entity(letter) for letter in text)


def _entity(letter: str) -> str:
    name = codepoint2name.get(ord(letter))
    return f"&{name};" if name else letter


def dump(config: Config) -> str:
    """Write a configuration."""
    return '<?xml version="1.0"?>\n' + _element("pfsense", config, 0)


def _element(tag: str, value: Any, depth: int) -> str:
    indent = "\t" * depth
    if value is False:
        return ""
    if isinstance(value, list):
        return "".join(_element(tag, item, depth) for item in value)
    if isinstance(value, dict) and value:
        inner = "".join(_element(key, item, depth + 1) for key, item in value.items())
        return f"{indent}<{tag}>\n{inner}{indent}</{tag}>\n"
    text = "" if value is True or not value else entities(str(value))
    if text and tag.startswith(CDATA_TAGS):
        text = f"<![CDATA[{text}]]>"
    return f"{indent}<{tag}>{text}</{tag}>\n"


def at(config: Config, path: str) -> Any:
    """Give what stands at a path such as ``nat/rule``; None when nothing does."""
    value: Any = config
    for key in path.split("/"):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def listed(config: Config, path: str) -> list[Any]:
    """Give a list, which is an empty string when it is empty."""
    value = at(config, path)
    return value if isinstance(value, list) else []


def put(config: Config, path: str, value: Any) -> None:
    """Set what stands at a path; empty strings on the way become tags with content."""
    *parents, last = path.split("/")
    for key in parents:
        if not isinstance(config.get(key), dict):
            config[key] = {}
        config = config[key]
    config[last] = value
