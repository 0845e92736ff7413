"""The mail system in desired/mail says what it must, in the order it must, and each fact in one place."""

import ast
import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from reconciler.expressions import complete, mta_sts_id
from reconciler.load import load_stack
from reconciler.registry import catalog
from reconciler.resource import Resource, ResourceId, SecretValue
from reconciler.sandbox.seeds import seeds
from reconciler.sandbox.server import AppServer
from reconciler.source import WorkingTree
from reconciler.stack import Stack
from reconciler_k8s.emulator import KubernetesEmulator
from reconciler_pfsense.emulator.configfile import dump, parse
from reconciler_vault.shape import faults

ROOT = Path(__file__).parents[2]
FOLDER = "desired/mail"
TODAY = date(2026, 11, 22)
PATH = {"smtp": 25, "smtps": 465, "sub": 587, "imaps": 993}
NODES = ("10.0.20.101", "10.0.20.102", "10.0.20.103", "10.0.20.104")


def files() -> dict[str, bytes]:
    return dict(WorkingTree().read(ROOT, FOLDER).tree)


def load(change: Callable[[dict[str, bytes]], None] = lambda tree: None) -> Stack:
    tree = files()
    change(tree)
    return load_stack(tree, FOLDER, catalog(), today=TODAY)


def replacing(*pairs: tuple[str, str]) -> Callable[[dict[str, bytes]], None]:
    """Make a change of stack.yaml; a text that is not there is a mistake of the test."""

    def change(tree: dict[str, bytes]) -> None:
        text = tree[f"{FOLDER}/stack.yaml"].decode()
        for old, new in pairs:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        tree[f"{FOLDER}/stack.yaml"] = text.encode()

    return change


@pytest.fixture(scope="module")
def stack() -> Stack:
    return load()


def one(stack: Stack, id: str) -> Any:
    return stack.graph.resources[ResourceId.parse(id)].spec


def manifest(stack: Stack, id: str) -> Any:
    return one(stack, id).manifest


def needs(stack: Stack, id: str) -> set[str]:
    return {str(other) for other in stack.graph.resources[ResourceId.parse(id)].needs}


def of(stack: Stack, driver: str) -> Iterator[Resource]:
    return (resource for resource in stack.graph if resource.id.driver == driver)


def changed(before: Stack, after: Stack) -> set[str]:
    """Name the resources whose wish differs, those that come and go included."""
    old, new = before.graph.resources, after.graph.resources
    return {str(id) for id in {*old, *new} if id not in old or id not in new or old[id].spec != new[id].spec}


def describe_text(tree: Mapping[str, bytes]) -> str:
    return "\n".join(content.decode() for content in tree.values())


class TestTheStack:
    def test_loads_without_a_problem(self, stack: Stack) -> None:
        assert stack.name == "mail"
        assert {id.driver for id in stack.graph.resources} == {"k8s", "cloudflare", "vault", "pfsense", "uptime-kuma", "probe"}

    def test_says_of_every_contradiction_how_it_was_decided(self) -> None:
        mentioned = {int(number) for number in re.findall(r"\bX(\d+)\b", describe_text(files()))}
        assert mentioned == set(range(1, 18))

    def test_holds_no_secret(self, stack: Stack) -> None:
        assert not re.search(r"PRIVATE KEY-----\s*\n\s*[A-Za-z0-9+/]{20}|xsmtpsib-[a-f0-9]{8}|hooks\.slack\.com", describe_text(files()))
        for resource in of(stack, "k8s"):
            if resource.id.kind == "Secret":
                body = manifest(stack, str(resource.id))
                assert "data" not in body
                assert all(not isinstance(value, str) for value in body["stringData"].values())

    def test_accepts_no_difference_without_a_ticket_and_an_end(self, stack: Stack) -> None:
        assert {(str(one.resource), one.ticket) for one in stack.exemptions} == {
            ("cloudflare/DNSRecord/dmarc", "code-569"),
            ("cloudflare/DNSRecord/dkim-probe", "code-569"),
        }
        assert all(one.fields == ("/content",) and not one.expired for one in stack.exemptions)

    def test_never_lets_data_or_history_go_with_a_commit(self, stack: Stack) -> None:
        claims = [one for one in of(stack, "k8s") if one.id.kind in ("PersistentVolumeClaim", "Namespace")]
        assert len(claims) == 4
        assert all(one.policy.protect and not one.policy.prune for one in claims)
        assert all(not one.policy.prune for one in of(stack, "vault") if one.id.kind == "Secret")


class TestTheOrder:
    def test_goes_from_the_pod_over_the_firewall_to_the_names(self, stack: Stack) -> None:
        level = stack.graph.level()
        way = [
            "k8s/Deployment/mailserver/mailserver",
            "probe/SMTP/node-smtp",
            "pfsense/HAProxyBackend/mailserver_nodes_smtp",
            "pfsense/HAProxyFrontend/mailserver_smtp",
            "probe/SMTP/inside-smtp",
            "pfsense/PortForward/mailserver-smtp",
            "probe/SMTP/outside-smtp",
            "cloudflare/DNSRecord/mail-a",
            "cloudflare/DNSRecord/mx",
            "probe/DNS/mx",
            "probe/SMTP/by-name",
            "uptime-kuma/Monitor/external-smtp",
        ]
        levels = [level[ResourceId.parse(id)] for id in way]
        assert levels == sorted(set(levels))

    @pytest.mark.parametrize("name", PATH)
    def test_gates_every_step_of_every_port(self, stack: Stack, name: str) -> None:
        kind, probe = ("IMAP" if name == "imaps" else "SMTP"), {"sub": "submission"}.get(name, name)
        assert {f"probe/{kind}/node-{probe}", f"probe/{kind}/check-{probe}"} <= needs(
            stack, f"pfsense/HAProxyBackend/mailserver_nodes_{name}"
        )
        frontend = ResourceId("pfsense", "HAProxyFrontend", f"mailserver_{name}")
        assert ResourceId("pfsense", "HAProxyBackend", f"mailserver_nodes_{name}") in stack.graph.before[frontend]
        assert str(frontend) in needs(stack, f"probe/{kind}/inside-{probe}")
        assert f"probe/{kind}/inside-{probe}" in needs(stack, f"pfsense/PortForward/mailserver-{name}")
        assert f"pfsense/PortForward/mailserver-{name}" in needs(stack, f"probe/{kind}/outside-{probe}")
        assert f"probe/{kind}/outside-{probe}" in needs(stack, "cloudflare/DNSRecord/mail-a")

    def test_publishes_what_authorises_a_sender_before_anything_is_sent(self, stack: Stack) -> None:
        assert "probe/DNS/spf" in needs(stack, "k8s/ConfigMap/mailserver/mailserver.env.config")
        assert "probe/DNS/dkim-own" in needs(stack, "k8s/Secret/mailserver/mailserver-dkim")
        assert "probe/HTTP/mta-sts-policy" in needs(stack, "cloudflare/DNSRecord/mta-sts")

    def test_starts_no_monitor_before_its_target_answers(self, stack: Stack) -> None:
        for resource in of(stack, "uptime-kuma"):
            if resource.id.kind == "Monitor":
                push = resource.spec.type == "push"  # type: ignore[attr-defined]
                assert any(gate.driver == ("k8s" if push else "probe") for gate in resource.needs), resource.id


class TestThePath:
    @pytest.mark.parametrize(
        ("name", "port", "check"), [("smtp", 30125, 30145), ("smtps", 30126, 30146), ("sub", 30127, 30147), ("imaps", 30128, 30148)]
    )
    def test_leads_every_backend_to_all_nodes_with_a_header_and_checks_without(
        self, stack: Stack, name: str, port: int, check: int
    ) -> None:
        backend = one(stack, f"pfsense/HAProxyBackend/mailserver_nodes_{name}")
        seen = [(server.address, server.port, server.send_proxy, server.check_port) for server in backend.servers]
        assert seen == [(node, port, "v2", check) for node in NODES]
        assert backend.redispatch
        assert backend.check_interval == 5000

    def test_lets_imap_clients_be_silent_for_half_an_hour(self, stack: Stack) -> None:
        assert one(stack, "pfsense/HAProxyBackend/mailserver_nodes_imaps").server_timeout == 1_800_000
        assert one(stack, "pfsense/HAProxyFrontend/mailserver_imaps").client_timeout == 1_800_000

    @pytest.mark.parametrize(("name", "port"), PATH.items())
    def test_listens_on_the_inner_address_only_and_forwards_there(self, stack: Stack, name: str, port: int) -> None:
        frontend = one(stack, f"pfsense/HAProxyFrontend/mailserver_{name}")
        assert [(bind.address, bind.port) for bind in frontend.binds] == [("10.0.20.1", str(port))]
        forward = one(stack, f"pfsense/PortForward/mailserver-{name}")
        assert (forward.interface, forward.destination, forward.port, forward.target, forward.target_port) == (
            "wan",
            "wanip",
            str(port),
            "10.0.20.1",
            str(port),
        )
        assert forward.pass_rule is True

    def test_sends_headers_only_to_listeners_that_demand_them(self, stack: Stack) -> None:
        container = manifest(stack, "k8s/Deployment/mailserver/mailserver")["spec"]["template"]["spec"]["containers"][0]
        behind = {port["name"]: port["containerPort"] for port in container["ports"]}
        service = manifest(stack, "k8s/Service/mailserver/mailserver-proxy")["spec"]
        reached = {port["nodePort"]: behind[port["targetPort"]] for port in service["ports"]}
        assert (service["type"], service["externalTrafficPolicy"]) == ("NodePort", "Cluster")
        assert reached == {30125: 2525, 30126: 4465, 30127: 5587, 30128: 10993, 30145: 25, 30146: 465, 30147: 587, 30148: 993}
        inside = manifest(stack, "k8s/Service/mailserver/mailserver")["spec"]
        assert inside["type"] == "ClusterIP"
        assert {port["port"]: behind[port["targetPort"]] for port in inside["ports"]} == {25: 25, 465: 465, 587: 587, 993: 993}

    def test_names_ports_as_kubernetes_allows(self, stack: Stack) -> None:
        for resource in of(stack, "k8s"):
            for port in _ports(manifest(stack, str(resource.id))):
                assert len(port["name"]) <= 15, f"{resource.id}: {port['name']}"

    def test_believes_headers_from_the_nodes_and_from_nobody_else(self, stack: Stack) -> None:
        config = manifest(stack, "k8s/ConfigMap/mailserver/mailserver.config")["data"]
        assert f"haproxy_trusted_networks = {' '.join(NODES)}\n" in config["dovecot.cf"]
        assert "sign_local = false;" in config["dkim_signing.conf"]
        assert not re.search(r"(?m)^mynetworks", config["postfix-main.cf"])
        assert manifest(stack, "k8s/ConfigMap/mailserver/mailserver.env.config")["data"]["PERMIT_DOCKER"] == "none"

    def test_takes_one_more_node_in_one_place(self, stack: Stack) -> None:
        more = "address: 10.0.20.104}\n", "address: 10.0.20.104}\n      - {name: k8s-node5, address: 10.0.20.105}\n"
        after = load(replacing(more, ("${vars.nodes[3].address}", "${vars.nodes[3].address} ${vars.nodes[4].address}")))
        backends = {f"pfsense/HAProxyBackend/mailserver_nodes_{name}" for name in PATH}
        assert changed(stack, after) == {*backends, "pfsense/Alias/k8s_nodes", "k8s/ConfigMap/mailserver/mailserver.config"}


def _ports(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "name" in value and ("containerPort" in value or "targetPort" in value):
            yield value
        for item in value.values():
            yield from _ports(item)
    elif isinstance(value, list):
        for item in value:
            yield from _ports(item)


class TestTheNames:
    def test_say_what_the_owner_decided(self, stack: Stack) -> None:
        found = {
            resource.id.name: (one(stack, str(resource.id)).name, one(stack, str(resource.id)).content)
            for resource in of(stack, "cloudflare")
        }
        key = stack.spec.vars["dkim"]["public_key"]
        policy = manifest(stack, "k8s/ConfigMap/mailserver/mta-sts")["data"]["mta-sts.txt"]
        assert found == {
            "mail-a": ("mail.viktorbarzin.me", "176.12.22.76"),
            "mx": ("viktorbarzin.me", "mail.viktorbarzin.me"),
            "spf": ("viktorbarzin.me", "v=spf1 include:spf.brevo.com ~all"),
            "relay-verification": ("viktorbarzin.me", stack.spec.vars["relay"]["verification"]),
            "dkim-own": ("mail._domainkey.viktorbarzin.me", f"v=DKIM1; h=sha256; k=rsa; p={key}"),
            "dkim-probe": ("s1._domainkey.viktorbarzin.me", f"k=rsa; p={stack.spec.vars['probe']['dkim_public_key']}"),
            "dkim-relay-1": ("brevo1._domainkey.viktorbarzin.me", "b1.viktorbarzin-me.dkim.brevo.com"),
            "dkim-relay-2": ("brevo2._domainkey.viktorbarzin.me", "b2.viktorbarzin-me.dkim.brevo.com"),
            "dmarc": ("_dmarc.viktorbarzin.me", "v=DMARC1; p=quarantine; rua=mailto:dmarc@viktorbarzin.me"),
            "mta-sts-host": ("mta-sts.viktorbarzin.me", "viktorbarzin.me"),
            "mta-sts": ("_mta-sts.viktorbarzin.me", f"v=STSv1; id={mta_sts_id(policy)}"),
            "tls-reports": ("_smtp._tls.viktorbarzin.me", "v=TLSRPTv1; rua=mailto:postmaster@viktorbarzin.me"),
        }

    def test_keep_the_mail_host_away_from_the_web_proxy_and_alone_as_mx(self, stack: Stack) -> None:
        assert not one(stack, "cloudflare/DNSRecord/mail-a").proxied
        mx = one(stack, "cloudflare/DNSRecord/mx")
        assert (mx.priority, mx.exclusive) == (1, True)

    @pytest.mark.parametrize(("path", "bits"), [(("dkim", "public_key"), 2048), (("probe", "dkim_public_key"), 1024)])
    def test_publish_keys_that_are_keys(self, stack: Stack, path: tuple[str, str], bits: int) -> None:
        key = serialization.load_der_public_key(base64.b64decode(stack.spec.vars[path[0]][path[1]], validate=True))
        assert isinstance(key, rsa.RSAPublicKey)
        assert key.key_size == bits

    def test_give_a_policy_that_the_record_announces_by_a_name_of_its_own(self, stack: Stack) -> None:
        policy = manifest(stack, "k8s/ConfigMap/mailserver/mta-sts")["data"]["mta-sts.txt"]
        assert policy == "version: STSv1\nmode: testing\nmx: mail.viktorbarzin.me\nmax_age: 604800\n"
        after = load(replacing(("mode: testing", "mode: enforce")))
        assert changed(stack, after) == {"k8s/ConfigMap/mailserver/mta-sts", "cloudflare/DNSRecord/mta-sts"}
        ids = [re.search(r"id=([A-Za-z0-9]{1,32})$", one(each, "cloudflare/DNSRecord/mta-sts").content) for each in (stack, after)]
        assert len({found[1] for found in ids if found}) == 2


class TestOneChangeOfRelay:
    def test_moves_everything_that_speaks_of_it_and_nothing_else(self, stack: Stack) -> None:
        after = load(
            replacing(
                ("host: smtp-relay.brevo.com", "host: smtp.relay.example.net"),
                ("spf_include: spf.brevo.com", "spf_include: spf.relay.example.net"),
                ("key_prefix: xsmtpsib-", "key_prefix: relay-"),
            )
        )
        assert changed(stack, after) == {
            "cloudflare/DNSRecord/spf",
            "probe/DNS/spf",
            "k8s/ConfigMap/mailserver/mailserver.env.config",
            "vault/Secret/platform",
        }
        assert one(after, "cloudflare/DNSRecord/spf").content == "v=spf1 include:spf.relay.example.net ~all"
        env = manifest(after, "k8s/ConfigMap/mailserver/mailserver.env.config")["data"]
        assert env["DEFAULT_RELAY_HOST"] == "[smtp.relay.example.net]:587"

    def test_takes_credentials_of_the_relay_in_use_only(self, stack: Stack) -> None:
        pattern = one(stack, "vault/Secret/platform").keys["mailserver_sasl_passwd"].pattern
        assert re.search(pattern, "[smtp-relay.brevo.com]:587 somebody@example.net:xsmtpsib-made-up")
        assert not re.search(pattern, "[smtp.eu.mailgun.org]:587 somebody@example.net:xsmtpsib-made-up")
        assert not re.search(pattern, "smtp-relay.brevo.com:587 somebody@example.net:xsmtpsib-made-up")


class TestOneRoundTrip:
    def test_derives_every_window_from_its_period(self, stack: Stack) -> None:
        assert self.windows(stack) == ("*/20 * * * *", ["5m", "30m", None, "40m"], "2400", 1800, 1200.0)
        assert self.windows(load(replacing(("period_minutes: 20", "period_minutes: 30")))) == (
            "*/30 * * * *",
            ["5m", "45m", None, "60m"],
            "3600",
            2700,
            1800.0,
        )

    @staticmethod
    def windows(stack: Stack) -> tuple[str, list[str | None], str, int, float]:
        rules = manifest(stack, "k8s/PrometheusRule.monitoring.coreos.com/mailserver/mailserver")["spec"]["groups"][0]["rules"]
        return (
            manifest(stack, "k8s/CronJob/mailserver/email-roundtrip-monitor")["spec"]["schedule"],
            [rule.get("for") for rule in rules],
            rules[2]["expr"].split()[-1],
            one(stack, "uptime-kuma/Monitor/email-roundtrip").interval,
            one(stack, "probe/MailRoundtrip/round-trip").every,
        )

    def test_stays_within_what_its_sender_allows_a_day(self, stack: Stack) -> None:
        probe = stack.spec.vars["probe"]
        assert 24 * 60 // probe["period_minutes"] <= probe["daily_limit"]

    def test_is_a_program_that_says_what_the_runbook_waits_for(self, stack: Stack) -> None:
        script = manifest(stack, "k8s/ConfigMap/mailserver/email-roundtrip-monitor")["data"]["email_roundtrip.py"]
        ast.parse(script)
        assert "Round-trip SUCCESS in " in script


class TestTheMonitors:
    def test_keep_the_numbers_and_with_them_the_history_of_the_two_old_ones(self, stack: Stack) -> None:
        found = {name: stack.graph.resources[ResourceId("uptime-kuma", "Monitor", name)] for name in ("haproxy-smtp", "haproxy-imaps")}
        assert {name: (one.spec.id, one.spec.hostname, one.spec.port, one.spec.title) for name, one in found.items()} == {  # type: ignore[attr-defined]
            "haproxy-smtp": (282, "10.0.20.1", 25, "Mailserver HAProxy SMTP (pfSense :25)"),
            "haproxy-imaps": (283, "10.0.20.1", 993, "Mailserver HAProxy IMAPS (pfSense :993)"),
        }
        assert all(one.policy.adopt and one.policy.protect for one in found.values())

    def test_stay_below_the_rate_limit_of_postfix(self, stack: Stack) -> None:
        monitors = [one(stack, str(resource.id)) for resource in of(stack, "uptime-kuma") if resource.id.kind == "Monitor"]
        assert all(monitor.interval >= 60 for monitor in monitors)

    def test_dial_the_name_that_strangers_dial(self, stack: Stack) -> None:
        assert one(stack, "uptime-kuma/Monitor/external-smtp").hostname == "mail.viktorbarzin.me"

    def test_stand_on_one_page_each_once(self, stack: Stack) -> None:
        shown = [name for group in one(stack, "uptime-kuma/StatusPage/mail").groups for name in group.monitors]
        assert sorted(shown) == sorted(resource.id.name for resource in of(stack, "uptime-kuma") if resource.id.kind == "Monitor")

    def test_keep_quiet_while_the_pod_moves_and_speak_again_after_half_an_hour(self, stack: Stack) -> None:
        assert (stack.spec.monitoring.quiet, stack.spec.monitoring.at_most) == (True, 1800)

        def quiet(changed: str) -> set[str]:
            return {id.name for id in stack.graph.downstream([ResourceId.parse(changed)]) if id.kind == "Monitor"}

        everything = {resource.id.name for resource in of(stack, "uptime-kuma") if resource.id.kind == "Monitor"}
        assert quiet("k8s/Deployment/mailserver/mailserver") == everything
        assert quiet("pfsense/HAProxyBackend/mailserver_nodes_imaps") == {"haproxy-imaps", "external-smtp"}
        assert quiet("cloudflare/DNSRecord/tls-reports") == set(), "a change of what nobody dials silences nobody"


class TestTheManifests:
    def test_are_kubernetes_objects_to_kubectl(self, stack: Stack, tmp_path: Path) -> None:
        """A real kubectl sends every rendered object as a dry run to the emulated API server, which checks it against the schemas."""
        kubectl = shutil.which("kubectl")
        if kubectl is None:
            pytest.skip("kubectl is not installed")
        bodies = {resource.id: one(stack, str(resource.id)).wire(lambda ref: "made up") for resource in of(stack, "k8s")}
        namespace = bodies.pop(ResourceId("k8s", "Namespace", "mailserver"))
        seed = seeds()["k8s"]
        emulator = KubernetesEmulator({**seed, "objects": [*seed["objects"], namespace]})
        (tmp_path / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(bodies.values())}))
        door = AppServer(_logged_in(emulator))
        emulator.start()
        door.start()
        try:
            flags = ["--kubeconfig=/dev/null", f"--server={door.url}", f"--cache-dir={tmp_path}", "--dry-run=server", "--validate=false"]
            command = [kubectl, "create", *flags, "-o", "name", "-f", "all.json"]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
        finally:
            door.stop()
            emulator.stop()
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == len(bodies)

    def test_ask_for_a_new_pod_when_what_it_reads_changes(self, stack: Stack) -> None:
        for name in ("mailserver", "roundcubemail", "mta-sts"):
            assert one(stack, f"k8s/Deployment/mailserver/{name}").restart_on_change
        read = {str(id) for id in stack.graph.before[ResourceId("k8s", "Deployment", "mailserver/mailserver")]}
        assert {
            "k8s/ConfigMap/mailserver/mailserver.env.config",
            "k8s/ConfigMap/mailserver/mailserver.config",
            "k8s/ConfigMap/mailserver/mailserver-user-patches",
            "k8s/Secret/mailserver/mailserver-accounts",
            "k8s/Secret/mailserver/mailserver-aliases",
            "k8s/Secret/mailserver/mailserver-dkim",
            "k8s/Secret/mailserver/mailserver-relay",
            "k8s/PersistentVolumeClaim/mailserver/mailserver-data-encrypted",
        } <= read

    def test_patch_postfix_the_same_way_however_often(self, stack: Stack, tmp_path: Path) -> None:
        """The script runs with a postconf that only notes what it is asked."""
        bash = shutil.which("bash")
        if bash is None:
            pytest.skip("bash is not installed")
        script = tmp_path / "user-patches.sh"
        script.write_text(manifest(stack, "k8s/ConfigMap/mailserver/mailserver-user-patches")["data"]["user-patches.sh"])
        stub = tmp_path / "postconf"
        listing = '[ "$1" = -M ] && { echo "${2%/inet}   inet  n - n - - smtpd -o smtpd_sasl_auth_enable=yes"; exit; }'
        stub.write_text(f'#!/bin/sh\n{listing}\nprintf "%s\\n" "$@" >> asked\n')
        stub.chmod(0o755)
        asked = []
        for _ in range(2):
            subprocess.run([bash, str(script)], cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True, timeout=20)
            asked.append((tmp_path / "asked").read_text())
            (tmp_path / "asked").unlink()
        assert asked[0] == asked[1]
        for line in (
            "2525/inet/postscreen_upstream_proxy_protocol=haproxy",
            "2525/inet/smtpd_service_name=smtpd-proxy25",
            "smtpd-proxy25/pass/mynetworks=",
            "5587/inet=5587   inet  n - n - - smtpd -o smtpd_sasl_auth_enable=yes",
            "5587/inet/smtpd_upstream_proxy_protocol=haproxy",
            "4465/inet/syslog_name=postfix/submissions-proxy",
            "4465/inet/mynetworks=",
        ):
            assert line in asked[0].splitlines()


def _logged_in(emulator: KubernetesEmulator) -> Callable[..., Any]:
    """Lead to the API server with a token: kubectl sends none where there is no TLS."""
    token = f"Bearer {emulator.settings()['token']}".encode()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await emulator.api({**scope, "headers": [*scope["headers"], (b"authorization", token)]}, receive, send)

    return app


class TestTheSeeds:
    """What the embedded world holds fits what the stack asks for."""

    def test_give_secrets_of_the_shapes_that_are_asked_for(self, stack: Stack) -> None:
        held = seeds()["vault"]["secrets"]
        for resource in of(stack, "vault"):
            if resource.id.kind == "Secret":
                for key, wish in resource.spec.keys.items():  # type: ignore[attr-defined]
                    if wish.generate is None:
                        assert faults(SecretValue(held[resource.spec.path][key]), wish) == [], key  # type: ignore[attr-defined]

    def test_let_every_reference_be_completed(self, stack: Stack) -> None:
        held = seeds()["vault"]["secrets"] | {"secret/mailserver": {"uptime_kuma_push_token": "made-up", "roundcube_des_key": "made-up"}}
        for resource in stack.graph:
            for ref in resource.spec.secrets():
                assert complete(ref, lambda path, key: str(held[path][key]))

    def test_hold_the_key_whose_public_half_is_published_in_two_strings(self) -> None:
        first = seeds()
        private = serialization.load_pem_private_key(first["vault"]["secrets"]["secret/platform"]["mailserver_opendkim_key"].encode(), None)
        der = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        records = first["cloudflare"]["zones"]["viktorbarzin.me"]["records"]
        (text,) = [record["content"] for record in records if record["name"].startswith("mail._domainkey")]
        strings = re.findall(r'"([^"]*)"', text)
        assert [len(part) <= 255 for part in strings] == [True, True]
        assert "".join(strings) == f"v=DKIM1; h=sha256; k=rsa; p={base64.b64encode(der).decode()}"

    def test_have_no_secret_twice(self) -> None:
        values = [list(keys.values()) for each in (seeds(), seeds()) for keys in each["vault"]["secrets"].values()]
        texts = [value for keys in values for value in keys if "made-up" in value]
        assert len(set(texts)) == len(texts)

    def test_are_a_configuration_as_pfsense_writes_it(self) -> None:
        text = seeds()["pfsense"]["config_xml"]
        assert dump(parse(text)) == text


def test_the_resources_that_the_readme_asks_about_are_there(stack: Stack) -> None:
    asked = re.findall(r"reconciler (?:explain|adopt) (\S+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(asked) == 2
    assert [id for id in asked if ResourceId.parse(id) not in stack.graph.resources] == []
