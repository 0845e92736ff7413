"""The story of the demo: a commit becomes a mail system, and three short scenes show what keeps it one.

Every scene is a real push or a real edit behind the daemon's back, and every claim is checked in the systems themselves.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import httpx

from reconciler import telemetry
from reconciler.clock import Clock
from reconciler.compose import Workshop
from reconciler.daemon.cards import record
from reconciler.daemon.loop import Daemon
from reconciler.daemon.service import daemon
from reconciler.desired import desired_below
from reconciler.driver import Status
from reconciler.errors import ReconcilerError
from reconciler.plan import Plan
from reconciler.registry import catalog
from reconciler.report import Report, Verdict, drifted
from reconciler.resource import JSONObject, ResourceId
from reconciler.sandbox.screen import Screen
from reconciler.sandbox.world import World
from reconciler.state import Store

STACK = "mail"
PATIENCE = 90.0
OLD_RELAY, NEW_RELAY = "brevo.com", "relay.example.net"


@dataclass(slots=True)
class Demo:
    """Plays the story once. ``broken`` collects the promises that were not kept."""

    desired: Path
    root: Path
    screen: Screen
    broken: list[str] = field(default_factory=list)
    reports: "Queue[Report]" = field(default_factory=Queue)

    def play(self, stay: Callable[[World, Daemon], None] | None = None) -> list[str]:
        """Play; give the promises that were broken. ``stay`` is called before the world ends."""
        world, service, store, thread = self._start()
        try:
            self._first_commit(world, service, thread)
            self._relay_moves(world)
            self._hands_in_the_systems(world)
            self._half_the_zone(world)
            self._close(world)
            if stay is not None:
                stay(world, service)
        finally:
            self.screen.quiet()
            service.workshop.stop.set()
            if thread.ident is not None:
                thread.join(timeout=20)
            store.close()
            world.stop()
            telemetry.shutdown()
        return self.broken

    # -- beginning -----------------------------------------------------------------------------------------------------------

    def _start(self) -> tuple[World, Daemon, Store, Thread]:
        self.screen.busy("starting the embedded world")
        kinds = catalog()
        stack = desired_below(self.desired / STACK).load(STACK, kinds, Clock().now().date())
        world = World(self.root, kinds, stack)
        world.start()
        settings = world.settings()
        telemetry.configure_logging("error", "text")
        telemetry.configure("file", file=settings.telemetry.file)
        store = Store(settings.state, news=record)
        service = daemon(settings, store, listen=self.screen.hear)
        service.outbox.pace = 0.1
        service.done = self.reports.put
        thread = Thread(target=service.run, name="daemon", daemon=True)
        self.screen.quiet()
        systems = ", ".join(world.systems)
        self.screen.title(
            "An embedded world is up",
            f"{systems}, Slack, a git remote, and the daemon on it.",
            "All on loopback; the drivers use the real clients.",
        )
        return world, service, store, thread

    def _promise(self, text: str, kept: object) -> None:
        self.screen.promise(text, bool(kept))
        if not kept:
            self.broken.append(text)

    def _until(self, commit: str, good: Callable[[Report], bool]) -> Report:
        """Wait for the pass of a commit that ends as the story says, showing those on the way."""
        end = time.monotonic() + PATIENCE
        last: Report | None = None
        while time.monotonic() < end:
            try:
                report = self.reports.get(timeout=0.5)
            except Empty:
                continue
            self.screen.report(report)
            last = report
            if report.revision == commit and good(report):
                return report
        verdict = f"the last pass was {last.verdict} at {last.revision[:12]}" if last is not None else "there was no pass"
        raise ReconcilerError(f"the demo waited {PATIENCE:.0f} s in vain; {verdict}")

    # -- the scenes ----------------------------------------------------------------------------------------------------------

    def _first_commit(self, world: World, service: Daemon, thread: Thread) -> None:
        self.screen.title(
            "One commit",
            "git push: desired/mail, the whole mail system",
            "Kubernetes, Cloudflare, Vault, pfSense and Uptime Kuma, in one plan, in order of dependency",
        )
        world.remote.copy(self.desired, "desired")
        world.remote.edit(f"desired/{STACK}/stack.yaml", lambda text: _in_a_hurry(world.with_own_key(text)))
        commit = world.remote.push("Run our own mail")
        thread.start()
        report = self._until(commit, lambda one: one.verdict is Verdict.CONVERGED)
        self._promise("every resource is applied and healthy", not report.health and not report.remaining.stuck)
        self._promise("the second plan, made on new connections, is empty", self._fresh_plan(service).in_sync)
        self._promise("a mail probe reaches the pod through NAT, HAProxy and PROXY v2, and the pod sees the client", self._clients(world))
        written = {outcome.id.driver for outcome in report.outcomes if outcome.status is Status.APPLIED}
        self._promise("all five systems were written", {"k8s", "cloudflare", "vault", "pfsense", "uptime-kuma"} <= written)
        self._promise("what is not ours was left alone", self._foreign(world))

    def _relay_moves(self, world: World) -> None:
        self.screen.title(
            "a) The relay moves", "The owner stores the new relay's credentials in Vault and changes one block of stack.yaml."
        )
        host = f"smtp.{NEW_RELAY}"
        vault = world.systems["vault"]
        key = f"[{host}]:587 owner:xsmtpsib-{'0' * 16}"
        vault.ask("PATCH", "secret/data/platform", {"data": {"mailserver_sasl_passwd": key}})
        world.remote.edit(f"desired/{STACK}/stack.yaml", _other_relay)
        commit = world.remote.push(f"Relay through {NEW_RELAY}")
        report = self._until(commit, lambda one: one.verdict is Verdict.CONVERGED)
        self.screen.changes(report)
        moved = {str(change.id) for change in report.plan.changes}
        self._promise("the SPF record, the relay settings and the shape in Vault moved in one plan", _moved_together(moved))
        spf = [one["content"] for one in world.records() if "v=spf1" in str(one["content"])]
        self._promise(f"the published SPF record names {NEW_RELAY}", len(spf) == 1 and NEW_RELAY in spf[0] and OLD_RELAY not in spf[0])

    def _hands_in_the_systems(self, world: World) -> None:
        self.screen.title(
            "b) Two hands behind git's back",
            "Somebody points a port forward elsewhere in the firewall's GUI, and somebody edits a DNS record.",
        )
        before = len(world.slack.messages)
        _edit_firewall(world)
        name = self._reported(world)
        record = _edit_record(world, name)
        commit = world.remote.head()
        seen: list[Report] = []

        def both(report: Report) -> bool:
            seen.append(report)
            return _both_seen(seen)

        report = self._until(commit, both)
        for one in seen:
            self.screen.lines((f"{change.id}: {change.action} {change.cause}" for change in drifted(one.plan)), "    ")
        self._promise("the firewall was put right", f"-> {world.stack.spec.vars['firewall']}" in world.systems["pfsense"].rules())
        self._promise(
            "the firewall's own history says who it was", any("10.0.0.5" in str(one.evidence) for past in seen for one in past.plan.changes)
        )
        self._promise("the DNS record was only reported", any(held.guard == "drift" for held in report.remaining.held))
        self._promise("Slack heard of it", self._slack(world, before, name))
        self.screen.lines(_texts(world.slack.messages[before:]), "    slack: ")
        _restore_record(world, record)

    def _half_the_zone(self, world: World) -> None:
        self.screen.title(
            "c) A commit that would delete half of the zone",
            "Somebody takes half of the records out of dns.yaml, and whatever refers to them, and pushes it.",
        )
        records = len(world.records())
        _drop_half_the_zone(world)
        commit = world.remote.push("Tidy up the zone")
        report = self._until(commit, lambda one: any(held.guard in ("budget", "protect") for held in one.remaining.held))
        self._promise(
            "the change budget holds the deletes, and names the digest that would let them pass",
            any(held.guard == "budget" for held in report.remaining.held),
        )
        self._promise("not one record is gone", len(world.records()) == records)
        commit = world.remote.revert("Bring the zone back")
        report = self._until(commit, lambda one: one.verdict is Verdict.CONVERGED)
        self._promise("git revert brings the stack back to converged", report.verdict is Verdict.CONVERGED)

    def _close(self, world: World) -> None:
        if self.screen.brief:
            return
        self.screen.title("What is where", "Every system answers its real protocol on loopback; use the ordinary tools.")
        for name, lines in world.summary().items():
            self.screen.say(f"  [bold]{name}[/]")
            self.screen.lines(lines, "    ")
        self.screen.say(f"  [bold]traces[/]\n    {self.root / 'traces.jsonl'}")

    # -- looking for ourselves -----------------------------------------------------------------------------------------------

    def _fresh_plan(self, service: Daemon) -> Plan:
        force = service.force[STACK]
        with Workshop(service.workshop.settings).engine(service.store) as engine:
            return engine.plan(force.stack, force.desired.revision.commit)[0]

    def _clients(self, world: World) -> bool:
        doors = world.systems["probe"].doors
        return any(doors[name].clients for name in doors if name.endswith("-proxy"))

    def _foreign(self, world: World) -> bool:
        untouched = [one for one in world.records() if "reconciler:" not in str(one.get("comment") or "")]
        return bool(untouched) and "<name>" in world.systems["pfsense"].config_xml()

    def _reported(self, world: World) -> str:
        """Find the DNS record whose drift policy is to report."""
        for one in world.stack.graph:
            if one.id.driver == "cloudflare" and one.policy.drift == "report":
                return one.id.name
        raise ReconcilerError("desired/mail has no DNS record with reconciler/drift: report, so the demo cannot show one")

    def _slack(self, world: World, before: int, record: str) -> bool:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if any(record in text for text in _texts(world.slack.messages[before:])):
                return True
            time.sleep(0.1)
        return False


# -- what the people of the story do ------------------------------------------------------------------------------------------


def _in_a_hurry(text: str) -> str:
    """Look every five seconds: nobody wants to watch a demo for five minutes."""
    text = re.sub(r"\n  health_deadline: \d+", "\n  health_deadline: 40", text, count=1)
    return re.sub(r"\n  interval: \d+", "\n  interval: 5", text, count=1)


def _other_relay(text: str) -> str:
    return text.replace("host: smtp-relay.brevo.com", f"host: smtp.{NEW_RELAY}").replace(
        "spf_include: spf.brevo.com", f"spf_include: spf.{NEW_RELAY}"
    )


def _drop_half_the_zone(world: World) -> None:
    """Take half of the records out of git, and whatever refers to them, so that the files agree with one another."""
    records = [id for id in world.stack.graph.resources if id.driver == "cloudflare"]
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((world.remote.work / "desired" / STACK).rglob("*.yaml"))}
    whole = "".join(texts.values())
    dropped = [id for id in records if f'ref("{id}")' not in whole and f"- {id}\n" not in whole][: len(records) // 2]
    for path, text in texts.items():
        path.write_text(_without(text, dropped), encoding="utf-8")


def _without(text: str, dropped: Sequence[ResourceId]) -> str:
    for id in dropped:
        name = rf"{re.escape(str(id))}(?![\w-])"
        text = re.sub(rf"(?<!resource: ){name}, *|, *{name}|(?<=\[){name}(?=\])", "", text)
    documents = re.split(r"(?m)^---[^\n]*$", text)
    gone = [rf"kind: DNSRecord\nmetadata:\n  name: {re.escape(id.name)}\n" for id in dropped] + [
        rf"resource: {re.escape(str(id))}\n" for id in dropped
    ]
    return "\n---\n".join(one.strip("\n") for one in documents if not any(re.search(pattern, one) for pattern in gone)) + "\n"


def _edit_firewall(world: World) -> None:
    """Point the forward of port 993 at another machine, as an administrator at the GUI would."""

    def elsewhere(config: dict[str, Any]) -> None:
        for rule in config["nat"]["rule"]:
            if rule.get("local-port") == "993":
                rule["target"] = "10.0.20.99"

    world.systems["pfsense"].edit(elsewhere)


def _record(world: World, name: str) -> JSONObject:
    """Find the live record of a resource by its mark."""
    return next(one for one in world.records() if f"DNSRecord/{name}" in str(one.get("comment")))


def _patch(world: World, record: JSONObject, content: str) -> None:
    target = world.systems["cloudflare"].settings()
    zone = next(iter(target["zones"].values()))
    url = f"{target['base_url']}/zones/{zone}/dns_records/{record['id']}"
    httpx.patch(url, json={"content": content}, headers={"Authorization": f"Bearer {target['token']}"}, timeout=5).raise_for_status()


def _edit_record(world: World, name: str) -> JSONObject:
    """Weaken a record in the provider's dashboard; give the record as it was."""
    record = _record(world, name)
    text = str(record["content"])
    _patch(world, record, re.sub(r"p=\w+", "p=none", text, count=1) if "p=" in text else text.rstrip('"') + ' "')
    return record


def _restore_record(world: World, record: JSONObject) -> None:
    _patch(world, record, str(record["content"]))


def _both_seen(seen: Sequence[Report]) -> bool:
    repaired = any(change.id.driver == "pfsense" and change.cause == "drift" for one in seen for change in one.plan.changes)
    reported = any(held.guard == "drift" for held in seen[-1].remaining.held)
    return repaired and reported


def _moved_together(ids: set[str]) -> bool:
    parts = ("cloudflare/DNSRecord/spf", "k8s/ConfigMap/", "k8s/Secret/mailserver/mailserver-relay", "vault/Secret/platform")
    return all(any(id.startswith(part) for id in ids) for part in parts)


def _texts(messages: Sequence[JSONObject]) -> list[str]:
    return [str(one.get("text", "")) for one in messages]
