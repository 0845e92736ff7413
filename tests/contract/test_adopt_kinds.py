"""Adopting, for every kind of every driver against its emulator: what is live, however it came to be, is what git says afterwards."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml
from cloudflare_world import CloudflareWorld
from pfsense_world import PfSenseWorld
from test_k8s import SECRETS as K8S_SECRETS
from test_k8s import KubernetesWorld
from uptime_kuma_world import SECRETS as KUMA_SECRETS
from uptime_kuma_world import UptimeKumaWorld, serving
from vault_world import EmulatedVault

from reconciler.adopting import Adoption, adopt
from reconciler.desired import Desired, desired_from
from reconciler.engine import Engine
from reconciler.observing import Observer
from reconciler.registry import Catalog, catalog
from reconciler.resource import Resource, ResourceId, SecretRef
from reconciler.retry import Retry
from reconciler.settings import Engine as EngineSettings
from reconciler.source import Revision
from reconciler.targets import Targets
from reconciler.testing import Sample
from reconciler_cloudflare.emulator import CloudflareEmulator
from reconciler_vault.emulator import VaultEmulator
from tests.unit.core.memory import PLUGIN, TODAY, FakeTime, System

KINDS = Catalog((*catalog().plugins, PLUGIN))


@dataclass
class Site:
    """One system, and an engine that works on it as the installation ``test`` does."""

    driver: str
    world: Any
    secrets: Mapping[str, str]

    def __post_init__(self) -> None:
        self.keeper = System()
        for name, value in self.secrets.items():
            path, key = name.split("#")
            self.keeper.secrets.setdefault(path, {})[key] = value
            self.keeper.versions[path] = 1

        configs: dict[str, dict[str, Any]] = {self.driver: {}} | ({"mem": {"system": self.keeper}} if self.secrets else {})
        settings = EngineSettings(attempts=1, poll=0.01)
        retry = Retry(settings, clock=FakeTime().clock())
        self.targets = Targets(configs, KINDS)
        self.targets._open[self.driver] = self.world.open()
        self.engine = Engine(Observer(self.targets, KINDS, retry, "test", b"key"), retry, settings=settings)


@contextmanager
def cloudflare() -> Iterator[Site]:
    emulator = CloudflareEmulator({"retry_after": 0, "zones": {"example.com": {}, "example.org": {}}})
    emulator.start()
    yield Site("cloudflare", CloudflareWorld(emulator), {})
    emulator.stop()


@contextmanager
def k8s() -> Iterator[Site]:
    world = KubernetesWorld()
    yield Site("k8s", world, K8S_SECRETS)
    world.emulator.stop()


@contextmanager
def pfsense() -> Iterator[Site]:
    world = PfSenseWorld()
    yield Site("pfsense", world, {})
    world.emulator.stop()


@contextmanager
def vault() -> Iterator[Site]:
    emulator = VaultEmulator()
    emulator.start()
    yield Site("vault", EmulatedVault(emulator), {})
    emulator.stop()


@contextmanager
def kuma() -> Iterator[Site]:
    with serving() as emulator:
        yield Site("uptime-kuma", UptimeKumaWorld(emulator), KUMA_SECRETS)


SITES = {"cloudflare": cloudflare, "k8s": k8s, "pfsense": pfsense, "uptime-kuma": kuma, "vault": vault}


@pytest.fixture(params=sorted(SITES))
def cases(request: pytest.FixtureRequest) -> Iterator[tuple[Site, Sample]]:
    """Each sample of a driver, in a system of its own."""

    def made() -> Iterator[tuple[Site, Sample]]:
        number, most = 0, 1
        while number < most:
            with SITES[request.param]() as site:
                samples = site.world.samples()
                yield site, samples[number]
                site.targets.close()
            number, most = number + 1, len(samples)

    return made()


def document(one: Resource) -> str:
    """Write a resource as a person would: what has its default is left out."""
    plugin = KINDS.plugin(one.id.driver)
    if not plugin.api_version:
        data = plain(one.spec.manifest)  # type: ignore[attr-defined]
    else:
        spec = plain(one.spec.model_dump(mode="python", exclude_defaults=True))
        data = {"apiVersion": plugin.api_version, "kind": one.id.kind, "metadata": {"name": one.id.name}, "spec": spec}
    return f"---\n# {one.id}\n" + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def plain(value: Any) -> Any:
    if isinstance(value, SecretRef):
        return value.template
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str(value).replace("${", "$${")
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def desired(resources: Sequence[Resource], tail: str = "") -> Desired:
    stack = "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: contract}\nspec: {}\n"
    tree = {"desired/contract/stack.yaml": stack.encode()}
    tree["desired/contract/all.yaml"] = ("".join(document(one) for one in resources) + tail).encode()
    return desired_from(Revision("c1", tree), "desired")


def converge(site: Site, given: Desired) -> None:
    stack = given.load("contract", KINDS, TODAY)
    for _ in range(3):
        plan, _ = site.engine.plan(stack, "c1")
        if plan.in_sync:
            return
        report = site.engine.converge(stack, "c1", reason="test", approved=[plan.digest])
    assert report.remaining.in_sync, report.remaining


def adopted(site: Site, given: Desired, id: ResourceId, *, over: bool = False) -> tuple[Adoption, Desired]:
    found = adopt(site.engine, given, given.load("contract", KINDS, TODAY), id, KINDS, over=over)
    tree = {**given.revision.tree, found.file: found.after}
    return found, replace(given, revision=replace(given.revision, tree=tree))


def differences(site: Site, given: Desired, id: ResourceId) -> list[str]:
    plan, _ = site.engine.plan(given.load("contract", KINDS, TODAY), "c2")
    every = [*plan.changes, *(held.change for held in plan.held)]
    return [diff.path for one in every if one.id == id for diff in one.diffs] + [one.reason for one in plan.stuck if one.id == id]


def secret(found: Adoption) -> list[str]:
    """List what was refused because it is a secret; the value that Vault made for one has no other way into git either."""
    ours = found.id.kind == "Secret" and found.id.driver == "vault"
    return [one.path for one in found.refused if ours or "secret" in one.reason.lower()]


def test_what_another_commit_made_of_each_kind_is_what_git_says_after_it(cases: Iterator[tuple[Site, Sample]]) -> None:
    seen = 0
    for site, sample in cases:
        before, after = [*sample.needs, sample.before], [*sample.needs, sample.after]
        converge(site, desired(after))
        given = desired(before, "# the end\n")
        if not differences(site, given, sample.before.id):
            continue
        found, result = adopted(site, given, sample.before.id)
        assert secret(found) == [one.path for one in found.refused], (sample.before.id, found.refused)
        if found.complete:
            assert not differences(site, result, sample.before.id), (sample.before.id, found.patch)
            seen += 1
        head = "".join(document(one) for one in sample.needs).encode()
        assert found.after.startswith(head)
        assert found.after.endswith(b"# the end\n")
        for value in site.secrets.values():
            assert value not in found.after.decode() + found.message
    assert seen >= 3, "most kinds can be taken over whole"


def test_what_a_hand_changed_of_each_kind_is_what_git_says_after_it(cases: Iterator[tuple[Site, Sample]]) -> None:
    seen = 0
    for site, sample in cases:
        given = desired([*sample.needs, sample.before])
        converge(site, given)
        site.world.meddle(sample.before)
        if not differences(site, given, sample.before.id):
            continue
        found, result = adopted(site, given, sample.before.id)
        assert secret(found) == [one.path for one in found.refused], (sample.before.id, found.refused)
        if found.complete:
            assert not differences(site, result, sample.before.id), (sample.before.id, found.patch)
            seen += 1
    assert seen >= 2


MANIFEST = """\
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: relay
  namespace: mail
  labels: {app: relay, tier: edge}   # who may talk to it
spec:
  replicas: 2
  selector: {matchLabels: {app: relay}}
  template:
    metadata: {labels: {app: relay}}
    spec:
      containers:
        # the relay itself
        - name: relay
          image: relay:1   # pinned by the release
          env:
            - {name: LOG, value: info}
            # our domain
            - {name: DOMAIN, value: "${vars.domain}"}
          resources: {requests: {cpu: 0.5}}
        - name: metrics
          image: metrics:1
# below
"""


def test_a_manifest_takes_over_what_a_hand_did_to_lists_and_keeps_what_people_wrote_about_it() -> None:
    with k8s() as site:
        stack = "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: contract}\nspec: {vars: {domain: example.org}}\n"
        home = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: mail}\n"
        tree = {"desired/contract/stack.yaml": stack.encode(), "desired/contract/all.yaml": (home + MANIFEST).encode()}
        given = desired_from(Revision("c1", tree), "desired")
        id = ResourceId("k8s", "Deployment", "mail/relay")
        converge(site, given)
        relay = given.load("contract", KINDS, TODAY).graph.resources[id]
        spec = site.world.live("Deployment mail/relay")["spec"]
        pod = spec["template"]["spec"]
        pod["containers"][0]["image"] = "relay:2"
        pod["containers"][0]["env"] = [{"name": "LOG", "value": "debug"}, {"name": "DOMAIN", "value": "example.net"}]
        pod["containers"] = pod["containers"][:1]
        spec["replicas"] = 5
        site.world.patch(relay, {"metadata": {"labels": {"tier": None}}, "spec": spec})
        found, _ = adopted(site, given, id)
        wanted = home + MANIFEST.replace("relay:1 ", "relay:2 ").replace("value: info", "value: debug").replace(
            "replicas: 2", "replicas: 5"
        )
        wanted = wanted.replace("        - name: metrics\n          image: metrics:1\n", "").replace("app: relay, tier: edge", "app: relay")
        assert found.after.decode() == wanted
        [refused] = found.refused
        assert refused.path == "/spec/template/spec/containers/0/env/1/value"
        assert "is written as ${vars.domain}; change vars.domain in stack.yaml" in refused.reason
        site.targets.close()


def test_a_password_that_a_hand_put_into_an_environment_is_told_by_its_name_and_never_taken_over() -> None:
    with k8s() as site:
        home = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: mail}\n"
        stack = b"apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: contract}\nspec: {vars: {domain: example.org}}\n"
        text = MANIFEST.replace(
            "{name: LOG, value: info}", "{name: SMTP_PASSWORD, value: none}\n            - {name: AWS_SECRET_ACCESS_KEY, value: none}"
        )
        given = desired_from(
            Revision("c1", {"desired/contract/stack.yaml": stack, "desired/contract/all.yaml": (home + text).encode()}), "desired"
        )
        id = ResourceId("k8s", "Deployment", "mail/relay")
        converge(site, given)
        spec = site.world.live("Deployment mail/relay")["spec"]
        secrets = [{"name": "SMTP_PASSWORD", "value": "c4n4ry-1"}, {"name": "AWS_SECRET_ACCESS_KEY", "value": "c4n4ry-2"}]
        spec["template"]["spec"]["containers"][0]["env"] = [*secrets, {"name": "DOMAIN", "value": "example.org"}]
        spec["replicas"] = 5
        site.world.patch(given.load("contract", KINDS, TODAY).graph.resources[id], {"spec": spec})
        found, _ = adopted(site, given, id)
        assert found.after.decode() == home + text.replace("replicas: 2", "replicas: 5")
        assert "c4n4ry" not in found.patch + found.message
        assert len([one for one in found.refused if "looks like a secret" in one.reason]) == 2
        site.targets.close()


def test_the_value_of_a_secret_of_the_cluster_is_never_taken_over() -> None:
    with k8s() as site:
        [sample] = [one for one in site.world.samples() if one.before.id.kind == "Secret"]
        given = desired([*sample.needs, sample.before])
        converge(site, given)
        site.world.meddle(sample.before)
        for over in (False, True):
            found, _ = adopted(site, given, sample.before.id, over=over)
            assert not found.taken
            assert found.after == found.before
            assert "the values of a Secret are not read" in found.refused[0].reason
        site.targets.close()


MAINTENANCE = """\
---
apiVersion: uptime-kuma/v1
kind: Maintenance
metadata:
  name: backup
spec:
  strategy: single   # once
  start: 2030-01-01 02:00
  end: 2030-01-01 04:00
# below
"""


def test_fields_that_make_sense_only_together_are_taken_over_together_beside_one_that_cannot_be() -> None:
    with kuma() as site:
        tree = {"desired/contract/stack.yaml": b"apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: contract}\nspec: {}\n"}
        given = desired_from(Revision("c1", {**tree, "desired/contract/all.yaml": MAINTENANCE.encode()}), "desired")
        id = ResourceId("uptime-kuma", "Maintenance", "backup")
        converge(site, given)
        (row,) = site.world.emulator.store.windows.rows.values()
        row |= {"strategy": "recurring-weekday", "weekdays": [0], "title": "x" * 151}
        row["timeRange"] = [{"hours": 3, "minutes": 0}, {"hours": 5, "minutes": 0}]
        found, result = adopted(site, given, id)
        assert [one.path for one in found.refused] == ["/spec/title"]
        assert "cannot be expressed: spec.title:" in found.refused[0].reason
        assert set(found.taken) == {"/spec/strategy", "/spec/window_start", "/spec/window_end", "/spec/weekdays"}
        assert "  strategy: recurring-weekday   # once\n" in found.after.decode()
        assert differences(site, result, id) == ["/title"]
        site.targets.close()


WATCHED = """\
apiVersion: uptime-kuma/v1
kind: Monitor
metadata: {name: web}
spec:
  type: http
  url: https://mail.example.org/   # the web mail
  interval: 60
"""


def test_a_check_that_became_another_is_taken_over_as_one_beside_two_fields_that_cannot_be() -> None:
    with kuma() as site:
        tree = {"desired/contract/stack.yaml": b"apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: contract}\nspec: {}\n"}
        given = desired_from(Revision("c1", {**tree, "desired/contract/all.yaml": WATCHED.encode()}), "desired")
        id = ResourceId("uptime-kuma", "Monitor", "web")
        converge(site, given)
        (row,) = site.world.emulator.store.monitors.values()
        row |= {"type": "port", "hostname": "10.0.20.1", "port": 25, "url": None, "interval": 90}
        row |= {"retryInterval": 0, "name": "x" * 151}
        found, result = adopted(site, given, id)
        assert [one.path for one in found.refused] == ["/spec/title", "/spec/retry_interval"]
        assert set(found.taken) == {"/spec/type", "/spec/hostname", "/spec/port", "/spec/url", "/spec/interval"}
        assert "type: port\n" in found.after.decode()
        assert sorted(differences(site, result, id)) == ["/retry_interval", "/title"]
        site.targets.close()
