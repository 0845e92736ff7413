"""The way of a connection, the relay, secrets and quotas: each fault that was an outage once, beside the system without it."""

import pytest

from reconciler.checks.cluster import addresses_lost
from reconciler.checks.listeners import Listeners, listeners_in
from reconciler.checks.quota import period, runs
from reconciler.driver import Action, Change, FieldDiff
from reconciler.plan import Plan
from reconciler.resource import ResourceId
from reconciler.stack import Stack
from tests.unit.checks.stacks import DNS, STACK, answering, broken, found, load, record, recorded, said, whole

BACKEND = "pfsense/HAProxyBackend"
FRONTEND = "pfsense/HAProxyFrontend"
SMTP = "port: 30125, check_port: 30145, send_proxy: v2"
SETTINGS = "k8s/ConfigMap/mail/settings"
RELAY = '"[smtp-relay.brevo.com]:587"'
SPF = "v=spf1 include:spf.brevo.com -all"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # proxy and node ports
        ((SMTP, "port: 30125, send_proxy: v2"), ("error", "proxy-health", f"{BACKEND}/nodes_smtp")),
        ((SMTP, "port: 30125, check_port: 30125, send_proxy: v2"), ("error", "proxy-health", f"{BACKEND}/nodes_smtp")),
        ((SMTP, "port: 30125, check_port: 30128, send_proxy: v2"), ("error", "proxy-health", f"{BACKEND}/nodes_smtp")),
        ((SMTP, "port: 30125, check_port: 30145"), ("error", "proxy-pair", f"{BACKEND}/nodes_smtp")),
        (("targetPort: smtp-proxy", "targetPort: smtp"), ("error", "proxy-pair", f"{BACKEND}/nodes_smtp")),
        (("nodePort: 30125", "nodePort: 30225"), ("error", "node-port", f"{BACKEND}/nodes_smtp")),
        (("nodePort: 30145", "nodePort: 30245"), ("error", "node-port", f"{BACKEND}/nodes_smtp")),
        (("port: 25, targetPort: smtp-proxy", "port: 465, targetPort: smtp-proxy"), ("error", "port-pair", f"{FRONTEND}/smtp")),
        (("  client_timeout: 1800000\n", ""), ("error", "imap-timeout", f"{FRONTEND}/imaps")),
        (("  server_timeout: 1800000\n", ""), ("error", "imap-timeout", f"{BACKEND}/nodes_imaps")),
        # firewall
        (("binds: [{address: 10.0.20.1, port: 25}]", "binds: [{address: 10.0.20.1, port: 2525}]"),
         ("error", "forward-target", "pfsense/PortForward/smtp")),
        (("spec: {port: 25, target: 10.0.20.1}", "spec: {port: 26, target: 10.0.20.1, target_port: 25}"),
         ("error", "mx-path", "cloudflare/DNSRecord/mail-a")),
        (("source: nodes", "source: no_nodes"), ("info", "alias-reference", "pfsense/FirewallRule/from-nodes")),
        (("default_backend: nodes_smtp", "default_backend: nobody"), ("info", "alias-reference", f"{FRONTEND}/smtp")),
        # the server
        (("PERMIT_DOCKER: none", "PERMIT_DOCKER: connected-networks"), ("error", "open-relay", SETTINGS)),
        (("smtp_tls_security_level = encrypt", "mynetworks = 10.0.0.0/8"), ("error", "open-relay", "k8s/ConfigMap/mail/files")),
        (('ENABLE_RSPAMD_REDIS: "1"', 'ENABLE_RSPAMD_REDIS: "0"'), ("warning", "rspamd-learn", SETTINGS)),
        # the relay
        ((SPF, "v=spf1 include:mailgun.org ~all"), ("error", "relay-authorised", SETTINGS)),
        ((RELAY, '"[smtp.mailgun.org]:587"'), ("error", "relay-authorised", SETTINGS)),
        ((RELAY, '"[smtp.mailgun.org]:587"'), ("error", "relay-credentials", "vault/Secret/mail")),
        ((RELAY, '"[smtp-relay.brevo.com]:2525"'), ("error", "relay-credentials", "vault/Secret/mail")),
        ((SPF, "v=spf1 ip4:192.0.2.0/24 -all"), ("info", "relay-authorised", SETTINGS)),
        ((SPF, "not about senders"), ("info", "relay-authorised", SETTINGS)),
        # secrets and quotas
        (("consumers: [k8s/Secret/mail/relay]", "consumers: [k8s/Secret/mail/gone]"), ("warning", "secret-consumer", "vault/Secret/mail")),
        (("consumers: [k8s/Secret/mail/relay]", "consumers: [k8s/Secret/mail/probe]"), ("warning", "secret-consumer", "vault/Secret/mail")),
        (('sasl_passwd: ${vault("secret/mail", "sasl_passwd")}', 'sasl_passwd: ${vault("secret/mail", "password")}'),
         ("warning", "secret-undeclared", "k8s/Secret/mail/relay")),
        (('sasl_passwd: ${vault("secret/mail", "sasl_passwd")}', 'sasl_passwd: ${vault("secret/other", "password")}'),
         ("info", "secret-undeclared", "k8s/Secret/mail/relay")),
        (("    push_token:\n", "    nobody: {}\n    push_token:\n"), ("info", "secret-unused", "vault/Secret/mail")),
        (("*/20 * * * *", "*/10 * * * *"), ("error", "sender-quota", "k8s/CronJob/mail/probe")),
        (("interval: 1800", "interval: 1200"), ("error", "push-interval", "uptime-kuma/Monitor/round-trip")),
    ],
)  # fmt: skip
def test_a_fault_is_found_where_it_is(change: tuple[str, str], expected: tuple[str, str, str]) -> None:
    assert expected in said(found(broken(change)))


class TestWhatHappenedOnce:
    def test_the_relay_moved_and_the_spf_record_did_not(self) -> None:
        stack = broken((RELAY, '"[smtp.mailgun.org]:587"'), (r"\[smtp-relay\.brevo\.com\]:587", r"\[smtp\.mailgun\.org\]:587"))
        (finding,) = found(stack)
        assert finding.message == (
            "sends by smtp.mailgun.org, which example.com authorises neither by SPF nor by a delegated key; every letter will fail"
        )

    def test_a_delegated_key_is_enough_for_dmarc_and_worth_a_word(self) -> None:
        cname = "apiVersion: cloudflare/v1\nkind: DNSRecord\nmetadata: {name: k}\nspec: {zone: example.com, type: CNAME, "
        cname += "name: brevo1._domainkey.example.com, content: b1.example-com.dkim.brevo.com}\n"
        stack = broken((SPF, "v=spf1 include:mailgun.org ~all"), more=cname)
        assert said(found(stack, None))[0] == ("warning", "relay-authorised", SETTINGS)

    @pytest.mark.parametrize(
        ("relay", "include"),
        [
            ("email-smtp.eu-west-1.amazonaws.com", "include:amazonses.com"),
            ("smtp-relay.gmail.com", "include:_spf.google.com"),
            ("smtp.office365.com", "include:spf.protection.outlook.com"),
            ("out.relay.co.uk", "redirect=_spf.relay.co.uk"),
            ("relay.example.com", "a:relay.example.com"),
        ],
    )
    def test_a_relay_may_be_known_by_another_name(self, relay: str, include: str) -> None:
        stack = broken((RELAY, f'"[{relay}]:587"'), (SPF, f"v=spf1 {include} -all"))
        assert "relay-authorised" not in [one.rule for one in found(stack)]

    @pytest.mark.parametrize("relay", ["relay", "relay.mail.svc.cluster.local", "10.0.20.9", ""])
    def test_a_relay_of_the_house_is_not_judged(self, relay: str) -> None:
        stack = broken((RELAY, f'"{relay}"'), (SPF, "v=spf1 -all"))
        assert not [one for one in found(stack) if one.rule.startswith("relay")]

    def test_an_include_behind_an_include_may_be_the_relays(self) -> None:
        stack = broken((SPF, "v=spf1 include:spf.example.net -all"))
        answers = {"spf.example.net": ["v=spf1 include:spf.brevo.com -all"], "spf.brevo.com": ["v=spf1 ip4:192.0.2.1 -all"]}
        assert found(stack, answering(answers)) == []

    def test_an_include_of_our_own_that_is_not_here_may_hold_anything(self) -> None:
        stack = broken((SPF, "v=spf1 include:_spf.example.com -all"))
        assert ("info", "relay-authorised", SETTINGS) in said(found(stack))

    def test_an_alias_was_deleted_while_a_rule_used_it(self) -> None:
        stack = broken(("source: nodes", "source: gone"))
        assert said(found(stack, leaving=["pfsense/Alias/gone"])) == [("error", "alias-reference", "pfsense/FirewallRule/from-nodes")]

    def test_an_alias_in_an_alias_was_deleted(self) -> None:
        stack = broken(("addresses: [10.0.20.101]", "addresses: [gone]"))
        assert said(found(stack, leaving=["pfsense/Alias/gone"])) == [("error", "alias-reference", "pfsense/Alias/nodes")]

    def test_health_checks_sent_a_header_to_the_service(self) -> None:
        (finding,) = found(broken((SMTP, "port: 30125, send_proxy: v2")))
        assert finding.message == "checks of server n1 send a PROXY header to the service; give a check_port"


class TestWhatIsNotKnown:
    def test_a_listener_without_any_file_that_speaks_of_headers_is_an_info(self) -> None:
        stack = broken(("postscreen_upstream_proxy_protocol=haproxy", "x=y"), ("        haproxy = yes\n", ""))
        assert {one.severity.value for one in found(stack) if one.rule == "proxy-pair"} == {"info"}

    def test_a_node_port_of_another_stack_is_an_info(self) -> None:
        service = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: mail}\nspec: {ports: [{port: 25}]}\n"
        backend = "apiVersion: pfsense/v1\nkind: HAProxyBackend\nmetadata: {name: b}\n"
        backend += "spec: {servers: [{name: n1, address: 10.0.20.101, port: 30125}]}\n"
        frontend = "apiVersion: pfsense/v1\nkind: HAProxyFrontend\nmetadata: {name: f}\n"
        frontend += "spec: {binds: [{address: 10.0.20.1, port: 25}], default_backend: b}\n"
        assert said(found(load({"all": f"{service}---\n{backend}---\n{frontend}"}))) == [("info", "node-port", f"{BACKEND}/b")]

    def test_a_forward_to_somebody_elses_address_is_not_judged(self) -> None:
        assert found(broken(("spec: {port: 993, target: 10.0.20.1}", "spec: {port: 993, target: 10.0.99.1}"))) == []

    def test_a_disabled_forward_is_not_judged(self) -> None:
        assert found(broken(("spec: {port: 993, target: 10.0.20.1}", "spec: {port: 994, target: 10.0.20.1, disabled: true}"))) == []

    def test_a_server_out_of_service_is_not_judged(self) -> None:
        assert found(broken((SMTP, "port: 30999, status: disabled"))) == []


class TestListeners:
    @pytest.mark.parametrize(
        ("text", "ports"),
        [
            ("postconf -Pe '2525/inet/postscreen_upstream_proxy_protocol=haproxy'", {2525}),
            ("2525 inet n - n - 1 postscreen\n  -o postscreen_upstream_proxy_protocol=haproxy\n465 inet n - n - - smtpd\n", {2525}),
            ("for p in 5587:a 4465:b; do\n postconf -P \"${port}/inet/smtpd_upstream_proxy_protocol=haproxy\"\n", {5587, 4465}),
            ("postscreen_upstream_proxy_protocol = haproxy\n", {25}),
            ("smtpd_upstream_proxy_protocol = haproxy\n", {25, 465, 587}),
            ("# 2525/inet/smtpd_upstream_proxy_protocol=haproxy\n", set()),
            ("2525/inet/smtpd_upstream_proxy_protocol=\n", set()),
            ("inet_listener imaps {\n  haproxy = yes\n  port = 10993\n}\ninet_listener imap {\n  port = 143\n}\n", {10993}),
            ("inet_listener imaps {\n  haproxy = no\n  port = 993\n}\n", set()),
        ],
    )  # fmt: skip
    def test_are_read_from_what_configures_them(self, text: str, ports: set[int]) -> None:
        assert listeners_in([text]) == Listeners(frozenset(ports))

    def test_that_are_named_by_an_unknown_variable_leave_the_answer_open(self) -> None:
        found = listeners_in(['postconf -P "$port/inet/smtpd_upstream_proxy_protocol=haproxy"'])
        assert (found.ports, found.whole, bool(found)) == (frozenset(), False, True)


BALANCED = ResourceId("k8s", "Service", "mailserver/mailserver")


class TestAnAddressThatIsGivenUp:
    def given_up(self, stack: Stack) -> list[tuple[str, str, str]]:
        gone = FieldDiff("/spec/loadBalancerIP", "10.0.20.202", None)
        change = Change(Action.UPDATE, BALANCED, "k8s", diffs=(gone,))
        return said(found(stack, plan=Plan(stack.name, "", ((change,),))))

    def test_must_not_be_where_a_forward_leads_be_it_by_an_alias(self) -> None:
        direct = broken(("{port: 25, target: 10.0.20.1}", "{port: 25, target: 10.0.20.202}"))
        assert self.given_up(direct) == [("error", "address-held", "pfsense/PortForward/smtp")]
        alias = "apiVersion: pfsense/v1\nkind: Alias\nmetadata: {name: old}\nspec: {type: host, addresses: [10.0.20.202]}\n"
        by_name = broken(("{port: 25, target: 10.0.20.1}", "{port: 25, target: old}"), more=alias)
        assert self.given_up(by_name) == [("error", "address-held", "pfsense/PortForward/smtp")]
        assert self.given_up(broken(more=alias)) == [], "an alias that nobody uses leads nowhere"

    def test_must_not_be_watched_or_published(self) -> None:
        monitor = "apiVersion: uptime-kuma/v1\nkind: Monitor\nmetadata: {name: old}\n"
        monitor += "spec: {title: Old, type: port, hostname: 10.0.20.202, port: 25}\n"
        assert self.given_up(broken(more=monitor)) == [("error", "address-held", "uptime-kuma/Monitor/old")]
        published = self.given_up(broken(more=record("old", "A", "10.0.20.202", "old.example.com")))
        assert published == [("error", "address-held", "cloudflare/DNSRecord/old")]

    def test_is_read_from_what_a_plan_takes_from_a_service(self) -> None:
        annotations = "/metadata/annotations/metallb.universe.tf~1loadBalancerIPs"
        diffs = [
            FieldDiff(annotations, "10.0.20.202, 10.0.20.203", "10.0.20.203"),
            FieldDiff("/spec/clusterIP", "10.96.0.7", None),
            FieldDiff("/spec/externalIPs", ["192.0.2.7"], None),
            FieldDiff("/metadata/annotations", {"who": "me"}, None),
        ]
        assert list(addresses_lost(BALANCED, diffs)) == ["10.0.20.202", "192.0.2.7"]
        assert list(addresses_lost(ResourceId("k8s", "Ingress", "a/b"), diffs)) == []


class TestSchedules:
    @pytest.mark.parametrize(
        ("schedule", "count", "pause"),
        [
            ("*/20 * * * *", 72, 20),
            ("*/10 * * * *", 144, 10),
            ("0 3 * * *", 1, 1440),
            ("0,30 8-17 * * 1-5", 20, 870),
            ("5/25 * * * *", 72, 25),
        ],
    )
    def test_run_so_often_a_day(self, schedule: str, count: int, pause: int) -> None:
        assert (len(runs(schedule) or []), period(schedule)) == (count, pause)

    @pytest.mark.parametrize("schedule", ["@hourly", "", "*/0 * * * *", "a * * * *", "* *"])
    def test_that_are_written_in_another_way_are_not_judged(self, schedule: str) -> None:
        assert (runs(schedule), period(schedule)) == (None, None)


class TestRecordsOfAZone:
    """Their limit is declared, or that of the provider's plans."""

    def many(self, count: int, limit: str = "") -> list[tuple[str, str, str]]:
        """Load an MX, its host, and texts until there are ``count`` records."""
        texts = "".join(record(f"r{n:04}", "TXT", f"{n}", f"r{n}.example.com") for n in range(count - 8))
        vars_ = f"\n    zone: {{zone: Example.com., record_limit: {limit}}}" if limit else ""
        stack = load({"dns": DNS, "more": texts}, STACK.replace("daily_limit: 100}", f"daily_limit: 100}}{vars_}"))
        return [one for one in said(found(stack)) if one[1] == "record-quota"]

    def test_may_be_as_many_as_declared(self) -> None:
        assert self.many(20, "20") == []
        assert self.many(21, "20") == [("error", "record-quota", "cloudflare/DNSRecord/tls-reports")]

    def test_may_be_as_many_as_a_free_plan_takes_where_nothing_is_declared(self) -> None:
        assert self.many(200) == []
        assert [severity for severity, *_ in self.many(201)] == ["info"]
        assert self.many(201, "3500") == []

    def test_are_never_more_than_any_plan_but_the_largest_takes(self) -> None:
        assert [severity for severity, *_ in self.many(3501)] == ["warning"]


def test_a_stack_without_mail_is_not_looked_at() -> None:
    web = "apiVersion: pfsense/v1\nkind: HAProxyBackend\nmetadata: {name: b}\n"
    web += "spec: {servers: [{name: n1, address: 10.0.20.101, port: 443, send_proxy: v2}]}\n"
    assert found(load({"web": web})) == []
    assert found(load({"nothing": ""}), recorded) == []


def test_the_whole_system_is_looked_at_and_nothing_is_wrong_with_it() -> None:
    assert found(whole()) == []
