"""Which fields each type of monitor has, so that a wish which its type cannot use is an error. Pure tables.

A type that is newer than this page is passed through on the server and refused in git, because nothing is known of what it needs.
"""

from collections.abc import Mapping

from reconciler_uptime_kuma.dialect import EXTRA_DEFAULTS, EXTRA_DEFAULTS_2

CHECKED = (
    "hostname",
    "port",
    "url",
    "method",
    "keyword",
    "json_path",
    "json_path_operator",
    "expected_value",
    "dns_resolve_type",
    "dns_resolve_server",
)
"""The fields that say what an active check asks, and where."""

SHAPES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "port": (("hostname", "port"), ()),
    "http": (("url",), ("method",)),
    "keyword": (("url", "keyword"), ("method",)),
    "json-query": (("url", "json_path", "expected_value"), ("method", "json_path_operator")),
    "ping": (("hostname",), ()),
    "dns": (("hostname",), ("port", "dns_resolve_type", "dns_resolve_server")),
    "push": ((), ("push_token",)),
    "group": ((), ()),
    "docker": (("docker_container", "docker_host"), ()),
    "tailscale-ping": (("hostname",), ()),
    "real-browser": (("url",), ()),
    "mqtt": (("hostname",), ("port",)),
    "radius": (("hostname",), ("port",)),
    "steam": (("hostname", "port"), ()),
    "gamedig": (("hostname", "port"), ()),
    "smtp": (("hostname",), ("port",)),
    "snmp": (("hostname",), ("port", "json_path", "json_path_operator", "expected_value")),
    "grpc-keyword": (("keyword",), ()),
    "websocket-upgrade": (("url",), ()),
    "sqlserver": ((), ()),
    "postgres": ((), ()),
    "mysql": ((), ()),
    "mongodb": ((), ("json_path", "expected_value")),
    "redis": ((), ()),
    "kafka-producer": ((), ()),
    "rabbitmq": ((), ()),
    "manual": ((), ()),
    "sip-options": (("hostname",), ("port",)),
    "system-service": ((), ()),
    "ntp": (("hostname",), ("port",)),
    "oracledb": ((), ()),
    "pm2": ((), ()),
    "globalping": ((), CHECKED),
}
"""For each type of monitor, the fields that say what is watched: those it needs, and those it also knows."""

TARGETS = (*CHECKED, "push_token", "docker_container", "docker_host")
"""Every field that says what is watched. One that a type does not know must keep its default, and is not compared."""

EXTRAS = frozenset(EXTRA_DEFAULTS) | frozenset(EXTRA_DEFAULTS_2)
_DATABASE = ("databaseConnectionString",)
REQUIRED_EXTRAS: Mapping[str, tuple[str, ...]] = {
    "gamedig": ("game",),
    "globalping": ("subtype", "location"),
    "grpc-keyword": ("grpcUrl", "grpcServiceName", "grpcMethod"),
    "kafka-producer": ("kafkaProducerBrokers", "kafkaProducerTopic"),
    "mongodb": _DATABASE,
    "mqtt": ("mqttTopic",),
    "mysql": _DATABASE,
    "oracledb": _DATABASE,
    "pm2": ("system_service_name",),
    "postgres": _DATABASE,
    "rabbitmq": ("rabbitmqNodes",),
    "radius": ("radiusUsername", "radiusPassword", "radiusSecret"),
    "redis": _DATABASE,
    "snmp": ("snmpOid",),
    "sqlserver": _DATABASE,
    "system-service": ("system_service_name",),
}
"""The further columns without which a type can check nothing."""


def knows(type: str) -> frozenset[str]:
    """Name the target fields that ``type`` knows; every one for a type that is newer than this table."""
    if type not in SHAPES:
        return frozenset(TARGETS)
    needed, optional = SHAPES[type]
    return frozenset(needed) | frozenset(optional)
