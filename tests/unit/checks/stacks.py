"""A small mail system that no rule finds anything wrong with, written as a user would, and the means to break it in one place."""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache

from reconciler.checks import Finding, Resolver, check
from reconciler.checks.view import NO_FACTS, Facts
from reconciler.driver import Action, Change
from reconciler.expressions import mta_sts_id
from reconciler.load import load_stack
from reconciler.plan import Plan
from reconciler.registry import catalog
from reconciler.resource import ResourceId
from reconciler.stack import Stack

RSA_2048 = (
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAobxmimhJKY9wmQxrC3KO6tlTIYd/H7BFhANWN5IWdszGgL76yasvhf0ketIx5hx/71INBNwlsdnZ19vO1OJEum+zUwUOZWWg"
    "EpLTGhVPrPhfgrqrttQFugAhbnTCgyaIgii+jEFxWS1NbG9RqSRtdtg3b5G4udkkQsdJzUg5Uc+XxE3M0Lj0g9XBRzjrJsTe6cU8cGJfmH/lzRrGQVwjdURUx9d4HB/IEjT/7MHBPPcF"
    "qy54+EyOZIb/KQlDxtYwRZPAkMihkMApLH4rVQ0Tyi7AI2uyYduSIAYEtB4poXUR+n7mnrZO/WvQ2gmRuxcXfkc02zOaSbiiq+ItAWziQwIDAQAB"
)
RSA_1024 = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC9OPeQGQ+Ko8Tx9pVdDKw7kv+j4Mo+ibTDYkx1PsVRJ8nbBeHzv4BxskjOIAhrvikkN5xYKIAmr42KIt+NrSCfCBLrCLh/IA0kXuUk"
    "R/tYbHG+s1/FdSd7BV9G8feSyzp5Fc0Xk00ZmsOr9Vp16+hsSv6kv02XyXjSgRBf3bbaOQIDAQAB"
)
ED25519 = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

POLICY_ID = mta_sts_id("version: STSv1\nmode: testing\nmx: mail.example.com\nmax_age: 604800\n")

STACK = """
apiVersion: reconciler/v1
kind: Stack
metadata: {name: post}
spec:
  vars:
    probe: {sender: mailgun, daily_limit: 100}
"""

DNS = f"""
apiVersion: cloudflare/v1
kind: DNSRecord
metadata: {{name: mail-a}}
spec: {{zone: example.com, name: mail.example.com, type: A, content: 203.0.113.5}}
---
apiVersion: cloudflare/v1
kind: DNSRecord
metadata: {{name: mx}}
spec: {{zone: example.com, name: example.com, type: MX, content: mail.example.com, priority: 1}}
---
apiVersion: cloudflare/v1
kind: DNSRecord
metadata: {{name: spf}}
spec: {{zone: example.com, name: example.com, type: TXT, content: "v=spf1 include:spf.brevo.com -all"}}
---
apiVersion: cloudflare/v1
kind: DNSRecord
metadata: {{name: dkim}}
spec: {{zone: example.com, name: mail._domainkey.example.com, type: TXT, content: "v=DKIM1; h=sha256; k=rsa; p={RSA_2048}"}}
---
apiVersion: cloudflare/v1
kind: DNSRecord
metadata: {{name: dmarc}}
spec: {{zone: example.com, name: _dmarc.example.com, type: TXT, content: "v=DMARC1; p=quarantine; rua=mailto:dmarc@example.com"}}
---
apiVersion: cloudflare/v1
kind: DNSRecord
metadata: {{name: mta-sts}}
spec: {{zone: example.com, name: _mta-sts.example.com, type: TXT, content: "v=STSv1; id={POLICY_ID}"}}
---
apiVersion: cloudflare/v1
kind: DNSRecord
metadata: {{name: mta-sts-host}}
spec: {{zone: example.com, name: mta-sts.example.com, type: CNAME, content: example.com, proxied: true}}
---
apiVersion: cloudflare/v1
kind: DNSRecord
metadata: {{name: tls-reports}}
spec: {{zone: example.com, name: _smtp._tls.example.com, type: TXT, content: "v=TLSRPTv1; rua=mailto:postmaster@example.com"}}
"""

FIREWALL = """
apiVersion: pfsense/v1
kind: HAProxyBackend
metadata: {name: nodes_smtp}
spec:
  servers: [{name: n1, address: 10.0.20.101, port: 30125, check_port: 30145, send_proxy: v2}]
---
apiVersion: pfsense/v1
kind: HAProxyFrontend
metadata: {name: smtp}
spec:
  binds: [{address: 10.0.20.1, port: 25}]
  default_backend: nodes_smtp
---
apiVersion: pfsense/v1
kind: PortForward
metadata: {name: smtp}
spec: {port: 25, target: 10.0.20.1}
---
apiVersion: pfsense/v1
kind: HAProxyBackend
metadata: {name: nodes_imaps}
spec:
  servers: [{name: n1, address: 10.0.20.101, port: 30128, check_port: 30148, send_proxy: v2}]
  server_timeout: 1800000
---
apiVersion: pfsense/v1
kind: HAProxyFrontend
metadata: {name: imaps}
spec:
  binds: [{address: 10.0.20.1, port: 993}]
  default_backend: nodes_imaps
  client_timeout: 1800000
---
apiVersion: pfsense/v1
kind: PortForward
metadata: {name: imaps}
spec: {port: 993, target: 10.0.20.1}
---
apiVersion: pfsense/v1
kind: Alias
metadata: {name: nodes}
spec: {type: host, addresses: [10.0.20.101]}
---
apiVersion: pfsense/v1
kind: FirewallRule
metadata: {name: from-nodes}
spec: {interface: lan, protocol: tcp, source: nodes, destination: any, destination_port: 25}
"""

CLUSTER = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: mail}
data:
  DEFAULT_RELAY_HOST: "[smtp-relay.brevo.com]:587"
  PERMIT_DOCKER: none
  RSPAMD_LEARN: "1"
  ENABLE_RSPAMD_REDIS: "1"
---
apiVersion: v1
kind: ConfigMap
metadata: {name: files, namespace: mail}
data:
  postfix-main.cf: |
    smtp_tls_security_level = encrypt
  postfix-virtual.cf: |
    @example.com spam@example.com
  user-patches.sh: |
    postconf -Pe '2525/inet/postscreen_upstream_proxy_protocol=haproxy'
  dovecot.cf: |
    service imap-login {
      inet_listener imaps_proxy {
        haproxy = yes
        port = 10993
        ssl = yes
      }
    }
  dkim_signing.conf: |
    domain {
      example.com {
        path = "/dkim.private";
        selector = "mail";
      }
    }
---
apiVersion: v1
kind: ConfigMap
metadata: {name: policy, namespace: mail}
data:
  mta-sts.txt: |
    version: STSv1
    mode: testing
    mx: mail.example.com
    max_age: 604800
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server, namespace: mail}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      containers:
        - name: server
          image: example.com/server:1
          envFrom: [{configMapRef: {name: settings}}]
          ports:
            - {name: smtp, containerPort: 25}
            - {name: imaps, containerPort: 993}
            - {name: smtp-proxy, containerPort: 2525}
            - {name: imaps-proxy, containerPort: 10993}
      volumes:
        - name: files
          configMap: {name: files}
---
apiVersion: v1
kind: Service
metadata: {name: server-proxy, namespace: mail}
spec:
  type: NodePort
  selector: {app: server}
  ports:
    - {name: smtp, port: 25, targetPort: smtp-proxy, nodePort: 30125}
    - {name: imaps, port: 993, targetPort: 10993, nodePort: 30128}
    - {name: check-smtp, port: 10025, targetPort: smtp, nodePort: 30145}
    - {name: check-imaps, port: 10993, targetPort: imaps, nodePort: 30148}
---
apiVersion: v1
kind: Secret
metadata: {name: relay, namespace: mail}
stringData:
  sasl_passwd: ${vault("secret/mail", "sasl_passwd")}
---
apiVersion: v1
kind: Secret
metadata: {name: probe, namespace: mail}
stringData:
  TOKEN: ${vault("secret/mail", "push_token")}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: probe, namespace: mail}
spec:
  schedule: "*/20 * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: probe
              image: example.com/probe:1
              env: [{name: SENDER, value: mailgun}]
              envFrom: [{secretRef: {name: probe}}]
"""

VAULT = r"""
apiVersion: vault/v1
kind: Secret
metadata: {name: mail}
spec:
  path: secret/mail
  keys:
    sasl_passwd:
      pattern: '^\[smtp-relay\.brevo\.com\]:587 \S+:\S+$'
      consumers: [k8s/Secret/mail/relay]
      form: password-map
    push_token:
      consumers: [k8s/Secret/mail/probe, uptime-kuma/Monitor/round-trip]
"""

MONITORS = """
apiVersion: uptime-kuma/v1
kind: Monitor
metadata: {name: round-trip}
spec:
  title: Round trip
  type: push
  push_token: ${vault("secret/mail", "push_token")}
  interval: 1800
"""

WHOLE: Mapping[str, str] = {"dns": DNS, "firewall": FIREWALL, "cluster": CLUSTER, "vault": VAULT, "monitors": MONITORS}
OUTSIDE: Mapping[tuple[str, str], Sequence[str]] = {("spf.brevo.com", "TXT"): ["v=spf1 ip4:192.0.2.0/24 ~all"]}


def recorded(name: str, type: str) -> Sequence[str] | None:
    """Give the recorded answers of other people's names."""
    return OUTSIDE.get((name, type))


def answering(texts: Mapping[str, Sequence[str]], others: Sequence[str] | None = None) -> Resolver:
    """Make a resolver of these TXT records; ``others`` is what every other question gets, None when nobody knows."""
    return lambda name, sort: texts.get(name, others) if sort == "TXT" else others


def load(parts: Mapping[str, str], stack: str = STACK) -> Stack:
    """Load a stack of these files."""
    tree = {"desired/post/stack.yaml": stack.encode()} | {f"desired/post/{name}.yaml": text.encode() for name, text in parts.items()}
    return load_stack(tree, "desired/post", catalog(), today=date(2026, 1, 1))


@cache
def whole() -> Stack:
    """Give the system that nothing is wrong with."""
    return load(WHOLE)


def broken(*changes: tuple[str, str], more: str = "") -> Stack:
    """Give the system with texts exchanged and documents added. A text that is not there exactly once is a mistake of the test."""
    parts = dict(WHOLE)
    for old, new in changes:
        (file,) = [name for name, text in parts.items() if old in text]
        assert parts[file].count(old) == 1, old
        parts[file] = parts[file].replace(old, new)
    return load(parts | ({"more": more} if more else {}))


def record(name: str, type: str, content: str, place: str = "example.com", **fields: object) -> str:
    """Write one more record."""
    extra = "".join(f", {key}: {str(value).lower()}" for key, value in fields.items())
    spec = f"{{zone: example.com, name: {place}, type: {type}, content: '{content}'{extra}}}"
    return f"apiVersion: cloudflare/v1\nkind: DNSRecord\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"


def found(
    stack: Stack,
    resolver: Resolver | None = recorded,
    leaving: Sequence[str] = (),
    plan: Plan | None = None,
    facts: Facts = NO_FACTS,
) -> list[Finding]:
    """Run every rule; ``leaving`` is what a plan would delete, ``facts`` what is told of stored secrets."""
    deletes = tuple(Change(Action.DELETE, ResourceId.parse(one), "target") for one in leaving)
    return list(check(stack, resolver=resolver, plan=plan or Plan(stack.name, "", (deletes,)), facts=facts))


def said(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """Give what tests compare: severity, rule and resource."""
    return [(one.severity.value, one.rule, str(one.resource)) for one in findings]
