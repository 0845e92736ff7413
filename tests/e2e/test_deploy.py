"""What is shipped to run the daemon: it is taken by a cluster, it is tight, and its rights are those that are needed and no others."""

import configparser
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import yaml

from reconciler.clock import Clock
from reconciler.compose import Workshop
from reconciler.daemon.reload import check
from reconciler.desired import Desired, desired_from
from reconciler.driver import Action, Scope
from reconciler.engine import Engine
from reconciler.registry import catalog
from reconciler.resource import JSONObject
from reconciler.sandbox.seeds import seeds
from reconciler.settings import Settings, load_settings
from reconciler.source import Revision, WorkingTree
from reconciler_k8s.emulator import KubernetesEmulator
from reconciler_k8s.emulator.access import Access, User
from reconciler_k8s.emulator.asking import Asked
from reconciler_vault.emulator import VaultEmulator
from tests.contract.test_k8s_access import Authority, over_tls

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
FILES = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")
TODAY = Clock().now().date()
WITH_KUBECTL = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
ACCOUNT = ("reconciler", "reconciler")


def documents() -> list[JSONObject]:
    return [one for path in FILES for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def only(kind: str, name: str = "reconciler") -> JSONObject:
    [found] = [one for one in documents() if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


@pytest.fixture
def cluster() -> Iterator[KubernetesEmulator]:
    first = seeds()["k8s"]
    made = KubernetesEmulator({**first, "objects": [], "rbac": True, "controllers": False})
    made.start()
    yield made
    made.stop()


# -- settings ----------------------------------------------------------------------------------------------------------------------


def settings_texts() -> dict[str, str]:
    return {
        "settings.example.yaml": (DEPLOY / "settings.example.yaml").read_text(encoding="utf-8"),
        "compose": (DEPLOY / "compose/settings/reconciler.yaml").read_text(encoding="utf-8"),
        "kubernetes": only("ConfigMap", "reconciler-settings")["data"]["reconciler.yaml"],
    }


def loaded(text: str, folder: Path) -> Settings:
    """Load settings, each secret file replaced by one that is there, and build every target."""
    numbers = itertools.count(1)

    def secret(match: re.Match[str]) -> str:
        path = folder / f"secret-{next(numbers)}"
        path.write_text(f"a-long-enough-secret-{path.name}")
        return f"file:{path}"

    file = folder / "reconciler.yaml"
    file.write_text(re.sub(r"file:/[^\s\"},\]]+", secret, text))
    settings = load_settings(file)
    check(settings, catalog())
    return settings


@pytest.mark.parametrize("name", sorted(settings_texts()))
def test_every_example_of_settings_is_taken_with_all_its_targets_and_holds_no_secret(name: str, tmp_path: Path) -> None:
    text = settings_texts()[name]
    settings = loaded(text, tmp_path)
    assert settings.repository.url
    assert settings.state.path == Path("/var/lib/reconciler/reconciler.db")
    for line in text.splitlines():
        found = re.search(r"(?:token|password|secret|fingerprint_key|slack_webhook)\"?: *\"?([^{\s].*)", line.split(" #")[0].split("# ")[0])
        assert found is None or found[1].startswith("file:/"), line


ALTERNATIVES = {  # what the example says in comments -> the lines that it then stands for
    "# url: git@": ("  url: https:", "  token: file:/run/secrets/git-token"),
    "# ssh_key:": (),
    "# known_hosts:": (),
    "# auth: {method: approle": ("    auth: {method: kubernetes",),
    "# auth: {method: token_file": ("    auth: {method: approle",),
    "# transport:": ("    private_key_file: /run/secrets/pfsense-key", "    known_hosts: /run/secrets/pfsense-known-hosts"),
    "# password:": (),
    "# certificate:": (),
    "# url: file:": (),
    "# slack_webhook:": ("  slack:", *(f"    {name}:" for name in ("bot_token", "signing_secret", "channel", "users"))),
}


def test_every_alternative_in_the_comments_of_the_example_is_taken_in_its_place(tmp_path: Path) -> None:
    lines = settings_texts()["settings.example.yaml"].splitlines()
    commented = [line.strip() for line in lines if re.match(r" +# [a-z_]+: \S", line)]
    assert [line for line in commented if not line.startswith(tuple(ALTERNATIVES))] == [], "not tried"
    for mark, instead in ALTERNATIVES.items():
        [place] = [number for number, line in enumerate(lines) if line.strip().startswith(mark)]
        lines[place] = lines[place].replace("# ", "", 1)
        for start in instead:
            lines.remove(next(line for line in lines if line.startswith(start)))
    settings = loaded("\n".join(lines), tmp_path)
    assert settings.repository.ssh_key == Path("/run/secrets/git-key")
    assert settings.targets["vault"]["auth"]["method"] == "token_file"
    assert settings.targets["pfsense"]["transport"] == "xmlrpc"
    assert settings.state.url.get_secret_value()
    assert settings.notify.slack_webhook.get_secret_value()


def test_the_example_shows_every_section_and_what_it_calls_the_defaults_are_these(tmp_path: Path) -> None:
    text = settings_texts()["settings.example.yaml"]
    assert yaml.safe_load(text).keys() == Settings.model_fields.keys()
    assert loaded(text, tmp_path).engine == Settings().engine


# -- Kubernetes --------------------------------------------------------------------------------------------------------------------


class Kubectl:
    """kubectl at an emulated cluster, as its administrator; over TLS, because it sends no token without."""

    def __init__(self, cluster: KubernetesEmulator, url: str, authority: Authority, home: Path) -> None:
        self.home = home
        trust = ["--certificate-authority", str(authority.ca)]
        self.command = ["kubectl", "--server", url, *trust, "--token", cluster.api.token, "--cache-dir", str(home / "cache")]

    def run(self, *arguments: str) -> str:
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        done = subprocess.run([*self.command, *arguments], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def kubectl(cluster: KubernetesEmulator, tmp_path: Path) -> Iterator[Kubectl]:
    authority = Authority(tmp_path).make()
    with over_tls(cluster, authority) as url:
        yield Kubectl(cluster, url, authority, tmp_path)


@WITH_KUBECTL
class TestKubectl:
    def test_takes_all_of_it_at_once_and_a_second_time_changes_nothing(self, kubectl: Kubectl) -> None:
        first = kubectl.run("apply", "--server-side", "--validate=false", "-k", str(KUBERNETES))
        assert len(first.splitlines()) == len(documents())
        before = self.objects(kubectl)
        kubectl.run("apply", "--server-side", "--validate=false", "-k", str(KUBERNETES))
        assert self.objects(kubectl) == before
        assert len(before) >= 7

    def objects(self, kubectl: Kubectl) -> dict[str, JSONObject]:
        text = kubectl.run("get", "deploy,svc,cm,pvc,sa,netpol,pdb", "-n", "reconciler", "-o", "json")
        found = json.loads(text)["items"]
        for one in found:
            one["metadata"].pop("resourceVersion")
        return {f"{one['kind']}/{one['metadata']['name']}": one for one in found}

    def test_finds_nothing_wrong_in_a_dry_run_of_its_own(self, kubectl: Kubectl) -> None:
        said = kubectl.run("apply", "--dry-run=client", "--validate=false", "-k", str(KUBERNETES))
        assert all(line.endswith("created (dry run)") for line in said.splitlines())
        assert len(said.splitlines()) == len(documents())

    def test_the_list_of_files_names_them_all(self) -> None:
        named = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
        assert sorted(named) == [path.name for path in FILES]


def converge(made: Engine, given: Desired, name: str) -> Any:
    stack = given.load(name, catalog(), TODAY)
    plan, _ = made.plan(stack, "c1")
    return made.converge(stack, "c1", reason="test", approved=[plan.digest])


def workshop(**targets: JSONObject) -> Workshop:
    return Workshop(Settings(instance="home", targets=targets, engine={"poll": 0.05, "attempts": 1}))


def test_the_daemon_can_keep_its_own_deployment(cluster: KubernetesEmulator) -> None:
    stack = "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: self}\nspec: {health_deadline: 1}\n"
    tree = {"desired/self/stack.yaml": stack.encode(), **{f"desired/self/k8s/{path.name}": path.read_bytes() for path in FILES}}
    given = desired_from(Revision("c1", tree), "desired")
    with workshop(k8s=cluster.settings()).engine() as made:
        report = converge(made, given, "self")
        assert not report.remaining.changes
        assert not [one for one in report.outcomes if one.status.value == "failed"], report.outcomes
        assert not made.plan(given.load("self", catalog(), TODAY), "c1")[0].changes


def test_the_pod_is_as_restricted_as_pod_security_wants_it_and_more() -> None:
    assert only("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = only("Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a Service makes variables that look like settings"
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= allowed
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    mounted = {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")}
    assert mounted == {"/var/lib/reconciler", "/tmp"}, "nothing else can be written"
    assert "env" not in container, "credentials are files, which can be exchanged, and never variables"


def test_the_settings_read_no_credential_that_the_pod_does_not_mount() -> None:
    pod = only("Deployment")["spec"]["template"]["spec"]
    mounts = {one["mountPath"]: one["name"] for one in pod["containers"][0]["volumeMounts"]}
    text = settings_texts()["kubernetes"]
    paths = re.findall(r"(?:file:)?(/run/secrets/[a-z-]+)", text)
    assert len(paths) >= 7
    assert mounts["/run/secrets"] == "credentials"
    guide = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
    missing = [path for path in paths if path.removeprefix("/run/secrets/") not in guide]
    assert not missing, "the guide says how the Secret is made"


def test_the_network_policy_lets_every_probe_and_every_target_of_the_mail_stack_out() -> None:
    policy = only("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    out = {one["port"] for rule in policy["egress"] for one in rule["ports"] if one["protocol"] == "TCP"}
    stack = desired_from(WorkingTree().read(ROOT, "desired/mail"), "desired").load("mail", catalog(), TODAY)
    dialled = {
        getattr(spec, "port", None)
        for one in stack.graph
        if one.id.driver == "probe"
        for spec in (one.spec, getattr(one.spec, "smtp", None))
    }
    inside = {port for port in dialled if isinstance(port, int) and port < 1024}
    assert inside <= out


WELL_KNOWN = {"https": 443, "git@": 22, "pfsense": 22, "xmlrpc": 443, "in_cluster": 6443, "slack": 443, "postgresql": 5432, "resolver": 53}
URL = re.compile(r"\b(?P<scheme>https?|ssh|postgresql\+psycopg)://(?:[^@/\s]+@)?(?P<host>[a-z0-9.-]+)(?::(?P<port>\d+))?")


@pytest.mark.parametrize("name", ["settings.example.yaml", "kubernetes", "guide"])
def test_the_network_policy_lets_out_to_whatever_an_example_of_settings_names(name: str) -> None:
    texts = {**settings_texts(), "guide": (ROOT / "docs/guide.md").read_text(encoding="utf-8")}
    rules = only("NetworkPolicy")["spec"]["egress"]
    out = {one["port"] for rule in rules if "to" not in rule for one in rule["ports"] if one["protocol"] == "TCP"}
    plain = "\n".join(line for line in texts[name].splitlines() if "spec:" not in line)
    named = {int(match["port"]) for match in URL.finditer(plain) if match["port"]}
    known = {port for word, port in WELL_KNOWN.items() if word in plain}
    assert len(named | known) > 3
    assert (named | known) - out == set()
    assert {53} <= {one["port"] for rule in rules for one in rule["ports"] if one["protocol"] == "UDP"}


# -- rights ------------------------------------------------------------------------------------------------------------------------

Right = tuple[str, str, str, str]
"""Group, resource, verb, namespace."""


def granted() -> set[Right]:
    """Every right that the shipped roles give, one by one."""
    roles = {(one["kind"], one["metadata"]["name"]): one for one in documents() if one["kind"] in ("Role", "ClusterRole")}
    found = set()
    for binding in (one for one in documents() if one["kind"] in ("RoleBinding", "ClusterRoleBinding")):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "reconciler", "namespace": "reconciler"}]
        role = roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]
        space = binding["metadata"].get("namespace", "")
        for rule in role["rules"]:
            found |= {(group, what, verb, space) for group in rule["apiGroups"] for what in rule["resources"] for verb in rule["verbs"]}
    return found


def mail_in_the_cluster() -> Desired:
    """The stack in desired/mail as far as it is about the cluster, its namespace taken over from whoever made it."""
    tree = dict(WorkingTree().read(ROOT, "desired/mail").tree)
    kept = {
        path: text for path, text in tree.items() if path.startswith(("desired/mail/k8s/", "desired/mail/files/", "desired/mail/vault"))
    }
    kept["desired/mail/stack.yaml"] = tree["desired/mail/stack.yaml"]
    for path in [path for path in kept if "/k8s/" in path]:
        found = list(yaml.safe_load_all(kept[path]))
        for one in found:  # what is gated by other systems is not gated here
            (one["metadata"].get("annotations") or {}).pop("reconciler/depends-on", None)
        kept[path] = yaml.safe_dump_all(found, sort_keys=False).encode()
    space = kept["desired/mail/k8s/namespace.yaml"].decode()
    kept["desired/mail/k8s/namespace.yaml"] = space.replace(
        "  annotations:\n", '  annotations:\n    reconciler/adopt: "true"\n', 1
    ).encode()
    return desired_from(Revision("c1", kept), "desired")


@pytest.fixture
def vault() -> Iterator[VaultEmulator]:
    made = VaultEmulator(seeds()["vault"])
    made.start()
    yield made
    made.stop()


class Guarded:
    """A cluster with the shipped rights in force, and a target that goes there as the daemon's own account."""

    def __init__(self, cluster: KubernetesEmulator) -> None:
        self.cluster = cluster
        for one in sorted(documents(), key=lambda one: (one["kind"] != "Namespace", one["kind"] == "Deployment")):
            cluster.put(one)
        account = cluster.machine.store.peek(("", "serviceaccounts"), *ACCOUNT)
        assert account is not None
        token = cluster.api.access.issue(account, 3600)
        self.target = {
            "url": cluster.settings()["url"],
            "token": token,
            "namespaces": ["mailserver"],
            "inventory_namespace": "mailserver",
            "wait": 1,
        }


@dataclass
class Asking:
    """What the daemon's account asks for: what it got, and what it was refused."""

    used: set[Right] = field(default_factory=set)
    refused: set[Right] = field(default_factory=set)


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Asking:
    found = Asking()
    real = Access.check

    def noting(self: Access, user: User, asked: Asked) -> None:
        right = (asked.group, asked.resource, asked.verb, "" if asked.plural == "namespaces" else asked.namespace)
        try:
            real(self, user, asked)
        except Exception:
            found.refused.add(right)
            raise
        if user.account == ACCOUNT and asked.plural:
            found.used.add(right)

    monkeypatch.setattr(Access, "check", noting)
    return found


def test_the_rights_are_enough_for_the_mail_stack_and_none_is_idle(
    cluster: KubernetesEmulator, vault: VaultEmulator, asking: Asking
) -> None:
    guarded = Guarded(cluster)
    given = mail_in_the_cluster()
    with workshop(k8s=guarded.target, vault=vault.settings()).engine() as made:
        stack = given.load("mail", catalog(), TODAY)
        quick = re.sub(rb"health_deadline: \d+", b"health_deadline: 1", given.revision.tree["desired/mail/stack.yaml"])
        given = desired_from(Revision("c1", {**given.revision.tree, "desired/mail/stack.yaml": quick}), "desired")
        for _ in range(6):  # without controllers nothing becomes ready, and what waits for it is told that it did
            report = converge(made, given, "mail")
            failed = [one for one in report.outcomes if one.status.value == "failed" and "k8s/" in str(one.id)]
            assert not failed, failed
            cluster.controllers.frozen.clear()
            cluster.controllers.settle()
        plan, seen = made.plan(given.load("mail", catalog(), TODAY), "c1")
        assert not [one for one in plan.changes if one.id.driver == "k8s"], plan.changes
        watched(made, seen.scope)
        pruned(made, given, stack)
    assert granted() == asking.used, {"idle": granted() - asking.used, "missing": asking.used - granted()}
    assert asking.refused == set(), "with named namespaces, nothing is asked of the whole cluster"


def watched(made: Engine, scope: Scope) -> None:
    """Let the driver watch for a moment."""
    stop = Event()
    driver: Any = made.observer.targets.get("k8s")
    hints = Thread(target=lambda: next(iter(driver.watch(scope, stop)), None), daemon=True)
    hints.start()
    hints.join(timeout=2)
    stop.set()
    hints.join(timeout=10)


def pruned(made: Engine, given: Desired, stack: Any) -> None:
    """Take everything but the namespace out of git."""
    tree = {path: text for path, text in given.revision.tree.items() if path.endswith(("stack.yaml", "namespace.yaml"))}
    tree["desired/mail/k8s/namespace.yaml"] = tree["desired/mail/k8s/namespace.yaml"].split(b"---")[0]
    after = desired_from(Revision("c2", tree), "desired")
    report = converge(made, after, "mail")
    assert {one.id.kind for one in report.plan.changes if one.action is Action.DELETE and one.id.driver == "k8s"}


def test_without_a_right_the_daemon_says_which_one_is_missing(cluster: KubernetesEmulator, vault: VaultEmulator) -> None:
    guarded = Guarded(cluster)
    role = only("Role", "reconciler-write")
    role["rules"] = [rule for rule in role["rules"] if rule["apiGroups"] != ["batch"]]
    cluster.put(role)
    with workshop(k8s=guarded.target, vault=vault.settings()).engine() as made:
        plan, _ = made.plan(mail_in_the_cluster().load("mail", catalog(), TODAY), "c1")
    said = [one.reason for one in plan.stuck if one.id.kind == "CronJob"]
    assert said
    assert "cronjobs.batch in namespace mailserver" in said[0]


# -- without Kubernetes ------------------------------------------------------------------------------------------------------------


def test_the_service_of_systemd_is_sound_and_gives_little_away(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    text = (DEPLOY / "systemd/reconciler.service").read_text(encoding="utf-8")
    unit = tmp_path / "reconciler.service"
    unit.write_text(text.replace("/opt/reconciler/bin/reconciler", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert "reconciler.service" not in verified.stderr, verified.stderr
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit)]
    judged = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert judged.returncode == 0, judged.stdout[-2000:]


def test_the_service_of_systemd_ends_as_the_daemon_does() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "systemd/reconciler.service")
    assert unit["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(unit["Service"]["TimeoutStopSec"]) > 60, "longer than the daemon waits for the write under way"
    assert unit["Service"]["ExecStart"].endswith("--settings /etc/reconciler/reconciler.yaml run")


def test_the_container_of_compose_can_write_nowhere_but_where_it_must() -> None:
    [service] = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"].values()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    writable = [one for one in service["volumes"] if not one.endswith(":ro")]
    assert writable == ["state:/var/lib/reconciler"]
    folders = [one.split(":")[0] for one in service["volumes"] if one.startswith(".")]
    assert all((DEPLOY / "compose" / folder).is_dir() or folder == "./secrets" for folder in folders)
