"""The two dialects of Uptime Kuma: which columns a monitor has in each, and how each is told from the other.

Pure tables. Columns as listed by ``getMonitor`` of 1.23.17 and 2.5.3; a column that the server does not know fails the whole ``add``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COMPUTED = frozenset(
    [
        "active",
        "childrenIDs",
        "dns_last_result",
        "forceInactive",
        "id",
        "includeSensitiveData",
        "maintenance",
        "path",
        "pathName",
        "screenshot",
        "tags",
        "weight",
    ]
)
"""Keys that the server works out or ignores on an edit."""

MANAGED = frozenset(
    [
        "accepted_statuscodes",
        "description",
        "dns_resolve_server",
        "dns_resolve_type",
        "docker_container",
        "docker_host",
        "expectedValue",
        "hostname",
        "interval",
        "jsonPath",
        "jsonPathOperator",
        "keyword",
        "maxretries",
        "method",
        "name",
        "notificationIDList",
        "parent",
        "port",
        "pushToken",
        "resendInterval",
        "retryInterval",
        "timeout",
        "type",
        "upsideDown",
        "url",
    ]
)
"""Columns that a field of the spec stands for."""

EXTRA_DEFAULTS: Mapping[str, Any] = {
    "authDomain": None,
    "authMethod": None,
    "authWorkstation": None,
    "basic_auth_pass": None,
    "basic_auth_user": None,
    "body": None,
    "databaseConnectionString": None,
    "databaseQuery": None,
    "expiryNotification": True,
    "game": None,
    "gamedigGivenPortOnly": True,
    "grpcBody": None,
    "grpcEnableTls": False,
    "grpcMetadata": None,
    "grpcMethod": None,
    "grpcProtobuf": None,
    "grpcServiceName": None,
    "grpcUrl": None,
    "headers": None,
    "httpBodyEncoding": None,
    "ignoreTls": False,
    "invertKeyword": False,
    "kafkaProducerAllowAutoTopicCreation": False,
    "kafkaProducerBrokers": [],
    "kafkaProducerMessage": None,
    "kafkaProducerSaslOptions": {"mechanism": "None"},
    "kafkaProducerSsl": False,
    "kafkaProducerTopic": None,
    "maxredirects": 10,
    "mqttPassword": None,
    "mqttSuccessMessage": None,
    "mqttTopic": None,
    "mqttUsername": None,
    "oauth_auth_method": None,
    "oauth_client_id": None,
    "oauth_client_secret": None,
    "oauth_scopes": None,
    "oauth_token_url": None,
    "packetSize": 56,
    "proxyId": None,
    "radiusCalledStationId": None,
    "radiusCallingStationId": None,
    "radiusPassword": None,
    "radiusSecret": None,
    "radiusUsername": None,
    "tlsCa": None,
    "tlsCert": None,
    "tlsKey": None,
}
"""The other columns of 1.23, and what the database puts where an ``add`` is silent."""

EXTRA_DEFAULTS_2: Mapping[str, Any] = {
    "bearer_token": None,
    "cacheBust": False,
    "conditions": [],
    "domainExpiryNotification": False,
    "expectedTlsAlert": None,
    "gamedigToken": None,
    "ipFamily": None,
    "location": None,
    "mqttCheckType": "keyword",
    "mqttWebsocketPath": None,
    "ntpRootDispersionThreshold": 500,
    "ntpStratumThreshold": 5,
    "ntpTimeOffsetThreshold": 1000,
    "oauth_audience": None,
    "ping_count": 1,
    "ping_numeric": True,
    "ping_per_request_timeout": 2,
    "protocol": None,
    "rabbitmqNodes": [],
    "rabbitmqPassword": None,
    "rabbitmqUsername": None,
    "remote_browser": None,
    "responseMaxLength": 1024,
    "retryOnlyOnStatusCodeFailure": False,
    "saveErrorResponse": True,
    "saveResponse": False,
    "screenshot_delay": 0,
    "smtpSecurity": None,
    "snmpOid": None,
    "snmpVersion": "2c",
    "subtype": None,
    "system_service_name": None,
    "wsIgnoreSecWebsocketAcceptHeader": False,
    "wsSubprotocol": "",
}
"""The columns that 2.x added."""

CREDENTIALS = frozenset(
    [
        "basic_auth_pass",
        "bearer_token",
        "databaseConnectionString",
        "gamedigToken",
        "kafkaProducerSaslOptions",
        "mqttPassword",
        "oauth_client_secret",
        "rabbitmqPassword",
        "radiusPassword",
        "radiusSecret",
        "tlsKey",
        "headers",
        "body",
        "grpcMetadata",
        "grpcBody",
    ]
)
"""Columns whose live value is never shown, because people keep credentials in them."""


PAGE_EXTRAS: Mapping[str, Any] = {"googleAnalyticsId": None}
PAGE_EXTRAS_2: Mapping[str, Any] = {
    "analyticsId": None,
    "analyticsScriptUrl": None,
    "analyticsType": None,
    "autoRefreshInterval": 300,
    "rssTitle": None,
    "showOnlyLastHeartbeat": False,
}
"""The settings of a status page that only one dialect has, and what a new page has there."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One major version's way of speaking. ``required`` is what an ``add`` must carry beside the managed columns.

    ``page`` are the settings of a status page beside those that both have, with their defaults.
    """

    name: str
    defaults: Mapping[str, Any]
    required: Mapping[str, Any]
    page: Mapping[str, Any]

    @property
    def modern(self) -> bool:
        """True for 2.x."""
        return self.name == "2.x"

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> "Dialect":
        """Choose by the ``info`` that follows a login.

        The version text cannot be trusted: the published package 2.0.0-dev.0 speaks like 1.23. Only 2.x names its database.
        """
        return MODERN if info.get("dbType") else CLASSIC


CLASSIC = Dialect("1.23", EXTRA_DEFAULTS, {}, PAGE_EXTRAS)
MODERN = Dialect("2.x", {**EXTRA_DEFAULTS, **EXTRA_DEFAULTS_2}, {"conditions": []}, PAGE_EXTRAS_2)
