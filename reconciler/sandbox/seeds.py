"""What the embedded world holds before the first commit: a house with a website, a firewall and a monitoring, and some mail made by hand.

Pure but for the randomness of the secrets, which are made anew at each call and look like what they are: made up. Everything that is not
mail must be the same after every pass as it was before.
"""

import base64
import json
import secrets
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from reconciler.resource import JSONObject

DOMAIN = "viktorbarzin.me"
WAN = "176.12.22.76"
FIREWALL = "10.0.20.1"
OLD_BALANCER = "10.0.20.202"
INGRESS = "10.0.20.203"
NODES = ("k8s-node1", "k8s-node2", "k8s-node3", "k8s-node4")


def seeds() -> dict[str, JSONObject]:
    """Give the seed of each target's emulator, by target name. Values of secrets differ from call to call."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "k8s": _cluster(),
        "cloudflare": {"zones": {DOMAIN: {"records": [*_website(), *_mail_by_hand(public_half(key))]}}},
        "vault": _vault(key),
        "pfsense": {"config_xml": _firewall()},
        "uptime-kuma": _monitoring(),
        "probe": _outside(),
    }


def public_half(key: rsa.RSAPrivateKey) -> str:
    """Give the public half of a key as the ``p=`` of a DKIM record writes it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_key().public_bytes(serialization.Encoding.DER, form)).decode()


# -- Kubernetes ----------------------------------------------------------------------------------------------------------------


def _cluster() -> JSONObject:
    objects: list[JSONObject] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "proxmox-lvm-encrypted"},
            "provisioner": "csi.proxmox.sinextra.dev",
            "reclaimPolicy": "Retain",
            "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": True,
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": "traefik"},
            "spec": {"controller": "traefik.io/ingress-controller"},
        },
        *_foreign_app("website", "website", "docker.io/library/nginx:1.27.5-alpine", 80),
        *_foreign_app("uptime-kuma", "uptime-kuma", "docker.io/louislam/uptime-kuma:2.0.2", 3001),
        *_foreign_app("dbaas", "mysql", "docker.io/library/mysql:8.4.5", 3306),
    ]
    return {"nodes": list(NODES), "crds": [_prometheus_rules()], "objects": objects}


def _foreign_app(namespace: str, name: str, image: str, port: int) -> list[JSONObject]:
    labels = {"app": name}
    container = {"name": name, "image": image, "ports": [{"name": "main", "containerPort": port}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    place = {"name": name, "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {**place, "labels": labels},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": place,
            "spec": {"selector": labels, "ports": [{"name": "main", "port": port, "targetPort": "main"}]},
        },
    ]


def _prometheus_rules() -> JSONObject:
    """Define as much of a PrometheusRule as the alerts of the mail system use."""
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    number_or_text = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    rule = {
        "type": "object",
        "required": ["expr"],
        "properties": {
            "alert": {"type": "string"},
            "record": {"type": "string"},
            "expr": number_or_text,
            "for": {"type": "string"},
            "labels": texts,
            "annotations": texts,
        },
    }
    group = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "interval": {"type": "string"}, "rules": {"type": "array", "items": rule}},
    }
    groups = {"type": "array", "items": group, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    spec = {"type": "object", "properties": {"groups": groups}}
    schema = {
        "type": "object",
        "required": ["spec"],
        "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}, "spec": spec},
    }
    names = {"plural": "prometheusrules", "singular": "prometheusrule", "kind": "PrometheusRule", "listKind": "PrometheusRuleList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "prometheusrules.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "names": names,
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


# -- Cloudflare ----------------------------------------------------------------------------------------------------------------


def _record(type: str, name: str, content: str, **more: Any) -> JSONObject:
    full = DOMAIN if name == "@" else f"{name}.{DOMAIN}"
    return {"type": type, "name": full, "content": content, "ttl": 1, **more}


def _website() -> list[JSONObject]:
    """Give records of other people and purposes."""
    return [
        _record("A", "@", "192.0.2.80", proxied=True),
        _record("AAAA", "@", "2001:db8::80", proxied=True),
        _record("CNAME", "www", DOMAIN, proxied=True),
        _record("CNAME", "blog", DOMAIN, proxied=True),
        _record("CNAME", "uptime", DOMAIN, proxied=True, comment="behind the login"),
        _record("CNAME", "grafana", DOMAIN, proxied=True),
        _record("A", "vpn", WAN),
        _record("TXT", "drive", "google-site-verification=made-up-for-the-embedded-world"),
        _record("TXT", "_acme-challenge", "left-by-the-certificate-pipeline", ttl=60),
        _record("CAA", "@", "", data={"flags": 0, "tag": "issue", "value": "letsencrypt.org"}),
        _record("SRV", "_minecraft._tcp", "", data={"priority": 0, "weight": 5, "port": 25565, "target": f"vpn.{DOMAIN}"}),
    ]


def _mail_by_hand(public_key: str) -> list[JSONObject]:
    """Give the mail records that were made by hand, each as it would be found: one long text in two strings, one unfinished cut-over."""
    return [
        _record("MX", "@", f"mail.{DOMAIN}", priority=1),
        _record("A", "mail", WAN),
        _record("TXT", "@", '"v=spf1 include:spf.brevo.com ~all"'),
        _record("TXT", "mail._domainkey", _in_two_strings(f"v=DKIM1; h=sha256; k=rsa; p={public_key}")),
        _record("TXT", "s1._domainkey", f'"k=rsa; p={_other_public_key()}"'),
        _record("TXT", "_dmarc", '"v=DMARC1; p=quarantine; pct=100; rua=mailto:e21c0ff8@dmarc.mailgun.org"'),
        _record("TXT", "_mta-sts", '"v=STSv1; id=20260412"'),
    ]


def _in_two_strings(text: str) -> str:
    return f'"{text[:255]}" "{text[255:]}"'


def _other_public_key() -> str:
    return public_half(rsa.generate_private_key(public_exponent=65537, key_size=1024))  # noqa: S505 - as short as the live one is


# -- Vault ---------------------------------------------------------------------------------------------------------------------


def _made_up(length: int = 12) -> str:
    return f"made-up-{secrets.token_hex(length)}"


def _vault(key: rsa.RSAPrivateKey) -> JSONObject:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    accounts = {f"{name}@{DOMAIN}": _made_up() for name in ("me", "spam", "canary")}
    aliases = f"postmaster@{DOMAIN} me@{DOMAIN}\nabuse@{DOMAIN} me@{DOMAIN}\n@{DOMAIN} spam@{DOMAIN}\n"
    platform = {
        "mailserver_accounts": json.dumps(accounts),
        "mailserver_aliases": aliases,
        "mailserver_opendkim_key": pem,
        "mailserver_sasl_passwd": f"[smtp-relay.brevo.com]:587 owner@smtp-brevo.invalid:xsmtpsib-{_made_up()}",
        "mailserver_roundcubemail_db_password": _made_up(),
        "alertmanager_slack_api_url": f"https://hooks.slack.invalid/services/{_made_up()}",
        "grafana_admin_password": _made_up(),
        "authentik_secret_key": _made_up(24),
    }
    viktor = {"mailgun_api_key": _made_up(), "brevo_api_key": _made_up(), "wireguard_private_key": _made_up()}
    return {"secrets": {"secret/platform": platform, "secret/viktor": viktor}, "auth": ["kubernetes"]}


# -- pfSense -------------------------------------------------------------------------------------------------------------------


def _firewall() -> str:
    """Give a config.xml as pfSense writes it, with the rules and the web frontend of other people in it."""
    text = Path(__file__).with_name("firewall.xml").read_text(encoding="utf-8")
    for name, value in (("@WAN@", WAN), ("@LAN@", FIREWALL), ("@INGRESS@", INGRESS)):
        text = text.replace(name, value)
    return "".join(f"{line}\n" for line in _indented(text.strip().splitlines()))


def _indented(lines: list[str]) -> list[str]:
    """Indent with tabs, as the real file is."""
    return ["\t" * ((len(line) - len(line.lstrip())) // 2) + line.strip() for line in lines]


# -- Uptime Kuma and the outside -------------------------------------------------------------------------------------------------


def _monitoring() -> JSONObject:
    history = [{"status": 1, "msg": "1 ms", "ping": 1}] * 5 + [{"status": 0, "msg": "Connection failed"}]
    old = {"type": "port", "hostname": OLD_BALANCER, "interval": 60, "retryInterval": 60, "maxretries": 2, "timeout": 48}
    return {
        "monitors": [
            {"id": 12, "name": "Website", "type": "http", "url": f"https://{DOMAIN}", "description": "made by hand"},
            {"id": 47, "name": "Internet", "type": "ping", "hostname": "192.0.2.1"},
            {**old, "id": 282, "name": "Mailserver SMTP", "port": 25, "beats": history},
            {**old, "id": 283, "name": "Mailserver IMAPS", "port": 993, "beats": history},
        ],
        "notifications": [{"id": 1, "name": "Phone", "type": "ntfy", "ntfyserverurl": "https://ntfy.invalid", "ntfytopic": "house"}],
    }


def _outside() -> JSONObject:
    """Give what the mail host does with mail, and the web addresses that lead to it. Accounts and names come with the stack."""
    return {
        "aliases": {f"@{DOMAIN}": f"spam@{DOMAIN}"},
        "addresses": {f"{name}.{DOMAIN}:443": "https" for name in ("mail", "mta-sts")},
        "page": "Roundcube Webmail",
    }
