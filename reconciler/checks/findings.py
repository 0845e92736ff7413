"""What a check finds: a value with a severity, a rule, where the rule is written, and the resource it is about.

Pure. May import only the nouns. The table of rules is the one place that names them, so that a waiver of a rule that does not exist is a
problem of the input and the reference lists each rule once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from reconciler.resource import ResourceId


class Severity(StrEnum):
    """How bad it is: an error holds what a commit changes, a warning is told with each plan, an info only where one asks for it."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


RANK: Mapping[Severity, int] = {severity: number for number, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule asks, in words, and the outside rule it comes from."""

    asks: str
    reference: str


RULES: Mapping[str, Rule] = {
    # -- dns
    "cname-alone": Rule("nothing stands beside a CNAME at its name", "RFC 1034 3.6.2"),
    "mx-target": Rule("an MX names a host with an address of its own, reachable without a web proxy", "RFC 5321 5.1, RFC 2181 10.3"),
    "null-mx": Rule("a null MX stands alone, with preference 0", "RFC 7505 3"),
    "mx-path": Rule("each address of an MX has a way in on port 25", "RFC 5321 5.1"),
    "dane-dnssec": Rule("TLSA records of a mail host need a signed zone", "RFC 7672 2.1"),
    "record-size": Rule("the records of one name and type hold at most 8192 characters together", "Cloudflare DNS record limits"),
    # -- spf
    "spf-one": Rule("a name has at most one SPF record", "RFC 7208 3.2"),
    "spf-syntax": Rule("every term of an SPF record is a mechanism or a modifier", "RFC 7208 4.6.1"),
    "spf-lookups": Rule("an SPF record needs at most 10 lookups, its includes counted", "RFC 7208 4.6.4"),
    "spf-include": Rule("an included name has an SPF record and does not include itself", "RFC 7208 5.2"),
    "spf-end": Rule("an SPF record ends in all or redirect and does not pass everybody", "RFC 7208 5.1"),
    "spf-ptr": Rule("an SPF record does not use ptr", "RFC 7208 5.5"),
    # -- dkim
    "dkim-one": Rule("a selector has one key record", "RFC 6376 3.6.2.2"),
    "dkim-syntax": Rule("a key record is a list of tags with v=DKIM1 first, a key and a known kind of it", "RFC 6376 3.6.1"),
    "dkim-key": Rule("a key can be read and is strong enough", "RFC 8301 3.2, RFC 8463 4"),
    "dkim-delegation": Rule("a delegated selector is a plain CNAME", "RFC 6376 3.6.2"),
    "dkim-selector": Rule("the selector that the server signs with is published", "RFC 6376 3.6.2.1"),
    "dkim-private": Rule("the record that publishes a stored private key has its public half", "RFC 6376 3.6.1"),
    # -- dmarc
    "dmarc-one": Rule("a domain has one DMARC record", "RFC 9989"),
    "dmarc-syntax": Rule("a DMARC record begins with v=DMARC1 and has a policy and reports that can be read", "RFC 9989"),
    "dmarc-removed": Rule("pct, rf and ri are no longer part of DMARC", "RFC 9989"),
    "dmarc-reports": Rule("who receives reports of another domain agrees to it", "RFC 9990 4"),
    "dmarc-source": Rule("a policy that refuses has an SPF record or a key by which our own mail passes", "RFC 9989"),
    "mailbox": Rule("an address of our own that receives reports is delivered", "RFC 5321 4.5.1"),
    # -- tls
    "mta-sts-record": Rule("the record is one, with v=STSv1 and an id of letters and digits", "RFC 8461 3.1"),
    "mta-sts-id": Rule("the id changes if, and only if, the policy does", "RFC 8461 3.1"),
    "mta-sts-host": Rule("the policy has its host", "RFC 8461 3.3"),
    "mta-sts-policy": Rule("the policy can be read and lists every MX", "RFC 8461 3.2"),
    "tls-reports": Rule("the record is one, with v=TLSRPTv1 and a mailto or https address", "RFC 8460 3"),
    # -- path
    "node-port": Rule("a server of the proxy leads to a node port that a Service pins", "Kubernetes Service nodePort"),
    "proxy-pair": Rule("who sends a PROXY header meets a listener that demands it, and nobody else does", "PROXY protocol 2"),
    "proxy-health": Rule("a health check goes to a port that knows no PROXY header", "PROXY protocol 2.2"),
    "port-pair": Rule("a mail port of the front leads to the same port behind", "RFC 6335, service names"),
    "forward-target": Rule("a port forward leads to a frontend that listens there", "pfSense NAT"),
    "address-held": Rule("nothing leads to an address that a Service is about to give up", "metallb.io usage"),
    "alias-reference": Rule("what a rule, a forward or a frontend names exists", "pf.conf(5)"),
    "imap-timeout": Rule("a proxy lets IMAP clients be silent for 29 minutes", "RFC 2177"),
    # -- relay and server
    "relay-authorised": Rule("the relay in use may send for the domain, by SPF or by a delegated key", "RFC 7208, RFC 9989"),
    "relay-credentials": Rule("the shape of the credentials names the relay in use", "postconf(5) smtp_sasl_password_maps"),
    "relay-stored": Rule("the credentials that are stored name the relay in use", "postconf(5) smtp_sasl_password_maps"),
    "open-relay": Rule("behind a PROXY listener no network is trusted", "postconf(5) mynetworks"),
    "rspamd-learn": Rule("learning has a store for what is learnt", "Rspamd statistics"),
    # -- secrets and quotas
    "secret-shape": Rule("a stored value has the shape that is declared", "stack"),
    "secret-unused": Rule("a declared secret has a consumer", "stack"),
    "secret-consumer": Rule("a consumer that a secret names is there", "stack"),
    "secret-undeclared": Rule("a secret that is read is declared", "stack"),
    "record-quota": Rule("a zone has no more records than its provider's plan takes", "vars: zone, record_limit; Cloudflare's plans"),
    "sender-quota": Rule("what runs by a schedule stays within the daily limit of its sender", "vars: sender, daily_limit"),
    "push-interval": Rule("a push monitor waits longer than the period of what reports to it", "stack"),
}
"""Every rule by its id, which is what ``reconciler/waive`` names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found."""

    severity: Severity
    rule: str
    reference: str
    resource: ResourceId
    message: str

    @property
    def place(self) -> tuple[int, str, ResourceId, str]:
        """What findings are sorted by: the worst first."""
        return RANK[self.severity], self.rule, self.resource, self.message

    def __lt__(self, other: "Finding") -> bool:
        """Come before what is less bad, then by rule and resource."""
        return self.place < other.place

    def __str__(self) -> str:
        """Give one line: the resource, what is wrong with it, the rule and where it is written."""
        return f"{self.resource}: {self.message} [{self.rule}, {self.reference}]"


def error(rule: str, resource: ResourceId, message: str) -> Finding:
    """Make a finding that holds commits."""
    return Finding(Severity.ERROR, rule, RULES[rule].reference, resource, message)


def warning(rule: str, resource: ResourceId, message: str) -> Finding:
    """Make a finding that is told."""
    return Finding(Severity.WARNING, rule, RULES[rule].reference, resource, message)


def info(rule: str, resource: ResourceId, message: str) -> Finding:
    """Make a finding for who asks; whatever is not known becomes no more than this."""
    return Finding(Severity.INFO, rule, RULES[rule].reference, resource, message)
