"""Observe a firewall in one execution, and write all changes of a wave as one transaction in another.

It decides what to edit; ``native`` knows the shapes, ``agent.php`` makes the edits, ``client`` carries it there.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from reconciler.driver import Action, Change, Evidence, Health, Level, Mark, Observation, Outcome, Ownership, Scope, Status
from reconciler.errors import Conflict, DriverError, Transient
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_pfsense.agent import Program, Snapshot, transaction_id
from reconciler_pfsense.client import Client
from reconciler_pfsense.config import Config
from reconciler_pfsense.native import (
    BACKEND,
    BY_NAME,
    FORWARD,
    FRONTEND,
    RULES,
    Edit,
    Found,
    deletes_for,
    edits_for,
    forward_of_rule,
    is_done,
    link_differences,
    linked,
    needs_reload,
    settings_live,
    text,
)
from reconciler_pfsense.spec import DRIVER, PortForward

SETTINGS = "HAProxySettings"
NOT_INSTALLED = "the package haproxy is not installed on the firewall; install it under System > Package Manager"
PENDING = "saved but not loaded"


class PfSenseDriver:
    """One firewall. Keeps what it saw last, because edits are made for exactly that state and refused for any other."""

    def __init__(self, config: Config) -> None:
        """Take the target's settings; connects when first used."""
        self.config = config
        self.client = Client(config)
        self._seen: Snapshot | None = None
        self._lineage: set[str] = set()

    def close(self) -> None:
        """Let go of the connection."""
        self.client.close()

    # -- observe ---------------------------------------------------------------------------------------------------------------

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """Say what is there. Raises Transient or Permanent when the firewall cannot be seen."""
        snapshot = self._look(scope)
        view = View(snapshot, scope.owner, wanted)
        seen = [view.observation(resource, scope) for resource in wanted]
        return [*(one for one in seen if one is not None), *view.unwanted()]

    def _look(self, scope: Scope) -> Snapshot:
        with scope.span("ssh php observe", target=self.client.target):
            self._seen = self.client.run(Program.of("observe"))
        self._lineage = {self._seen.sha}
        return self._seen

    # -- apply -----------------------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        """Make all changes as one transaction, so that they share one fate."""
        started = time.monotonic()
        try:
            self._transact(changes, scope)
        except DriverError as error:
            if not isinstance(error, Transient):
                self._seen = None  # the firewall may have gone back to another revision; look before the next write
            status, message, transient = Status.FAILED, str(error), isinstance(error, Transient)
        else:
            status, message, transient = Status.APPLIED, "", False
        share = (time.monotonic() - started) / max(len(changes), 1)
        return [Outcome(change.id, status, message, share, transient) for change in changes]

    def _transact(self, changes: Sequence[Change], scope: Scope) -> None:
        snapshot = self._seen or self._look(scope)
        edits: list[Edit] = []
        gone: list[JSONObject] = []
        view = View(snapshot, scope.owner, [change.desired for change in changes if change.desired is not None])
        for change in changes:
            mine, lost = self._edits(change, view, scope)
            edits += mine
            gone += lost
        kept = {(edit["list"], edit["set"]["name"]) for edit in edits if "name" in edit.get("set", {})}
        gone = [one for one in gone if (BY_NAME[one["kind"]].path, one["name"]) not in kept]
        self._send(snapshot, edits, gone, scope)

    def _send(self, snapshot: Snapshot, edits: list[Edit], gone: list[JSONObject], scope: Scope) -> None:
        rules, haproxy = needs_reload(edits, snapshot)
        program = Program.of(
            "apply",
            expect=snapshot.sha,
            transaction=transaction_id(snapshot.sha, edits),
            description=f"reconciler {scope.owner} {scope.revision[:12]}".strip(),
            edits=edits,
            gone=gone,
            filter=rules,
            haproxy=haproxy,
            lock_seconds=self.config.lock_timeout,
        )
        with scope.span("ssh php apply", target=self.client.target, edits=len(edits)):
            self._seen = self.client.run(program)
        self._lineage.add(self._seen.sha)

    def _edits(self, change: Change, view: "View", scope: Scope) -> tuple[list[Edit], list[JSONObject]]:
        """Give the edits of one change, and the names that are gone after it."""
        if change.id.kind == SETTINGS:
            return (edits_for(change.desired.spec, Mark.of(change.desired, scope), None, view.snapshot) if change.desired else []), []
        found = view.found(change.desired) if change.desired is not None else view.marked(change.id)
        if change.desired is None:
            edits = deletes_for(found, view.snapshot) if found else []
        else:
            self._refuse_foreign(change, found, scope)
            edits = _wanted_edits(change, found, view.snapshot, scope)
        self._refuse_stale(change, edits, view.snapshot)
        names = [text(found.item, "name")] if found and (change.desired is None or change.action is Action.REPLACE) else []
        return edits, [{"kind": change.id.kind, "name": name} for name in names if name and change.id.kind in ("Alias", BACKEND.name)]

    def _refuse_foreign(self, change: Change, found: Found | None, scope: Scope) -> None:
        """Refuse what is not ours any more, whatever the plan said."""
        ours = found is None or (found.mark is not None and found.mark.owner == scope.owner)
        if not ours and change.action is not Action.ADOPT:
            raise Conflict(f"{change.id}: an object of that name is there that carries no mark of ours; nothing was written")

    def _refuse_stale(self, change: Change, edits: Sequence[Edit], snapshot: Snapshot) -> None:
        """Refuse a plan made for another state of the firewall, unless what it wants is so already."""
        planned_for = change.handle.get("sha", snapshot.sha)
        if planned_for not in self._lineage and not all(is_done(edit, snapshot) for edit in edits):
            who = text(snapshot.revision, "username", "somebody")
            raise Conflict(f"{change.id}: the configuration was changed by {who} since this was planned; the next pass plans anew")


def _wanted_edits(change: Change, found: Found | None, snapshot: Snapshot, scope: Scope) -> list[Edit]:
    assert change.desired is not None
    spec, mark = change.desired.spec, Mark.of(change.desired, scope)
    if change.action is Action.REPLACE and found is not None:
        return [*deletes_for(found, snapshot), *edits_for(spec, mark, None, snapshot)]
    return edits_for(spec, mark, found, snapshot)


class View:
    """One snapshot seen by one owner: which item is which wanted resource, and what of ours nobody wants."""

    def __init__(self, snapshot: Snapshot, owner: str, wanted: Sequence[Resource]) -> None:
        """Index the items by the marks they carry."""
        self.snapshot = snapshot
        self.owner = owner
        self.wanted = {resource.id: resource for resource in wanted}
        self.items = {name: kind.all(snapshot) for name, kind in BY_NAME.items()}
        self.ours: dict[ResourceId, list[Found]] = {}
        for found in (one for several in self.items.values() for one in several):
            mark = found.mark
            if mark is not None and mark.owner == owner and mark.kind == found.kind.name:
                self.ours.setdefault(ResourceId(DRIVER, mark.kind, mark.name), []).append(found)
        for found in self._left_over_rules():
            mark = found.mark
            assert mark is not None
            self.ours.setdefault(ResourceId(DRIVER, mark.kind, mark.name), [found])
        self._claimed: set[tuple[str, int]] = set()

    def _left_over_rules(self) -> list[Found]:
        """Give linked rules of ours whose forward is gone, as forwards that stand nowhere."""
        linked_to = {text(found.item, "associated-rule-id") for found in self.items[FORWARD.name]}
        alone = [rule for rule in self.snapshot.lists[RULES] if text(rule, "associated-rule-id") not in {"", *linked_to}]
        found = [Found(FORWARD, -1, forward_of_rule(rule)) for rule in alone if text(rule, "descr").startswith("NAT ")]
        return [one for one in found if one.mark is not None and one.mark.owner == self.owner and one.mark.kind == FORWARD.name]

    def marked(self, id: ResourceId) -> Found | None:
        """Give the item that carries our mark for ``id``."""
        several = self.ours.get(id, [])
        return several[0] if several else None

    def found(self, resource: Resource) -> Found | None:
        """Give the item that a wanted resource stands for: by its mark, else by what makes it the same object."""
        marked = self.marked(resource.id)
        if marked is not None and marked.index >= 0:
            return marked
        return next((one for one in self._alike(resource) if not self._spoken_for(one)), None)

    def _alike(self, resource: Resource) -> list[Found]:
        kind = BY_NAME[resource.id.kind]
        return [one for one in self.items[kind.name] if kind.same(one.item, resource.spec)]

    def _spoken_for(self, found: Found) -> bool:
        """Say whether the item is marked as another resource that is wanted as well."""
        mark = found.mark
        return mark is not None and mark.owner == self.owner and ResourceId(DRIVER, mark.kind, mark.name) in self.wanted

    def observation(self, resource: Resource, scope: Scope) -> Observation | None:
        """Say what is there of a wanted resource; None when nothing is."""
        if resource.id.kind.startswith("HAProxy") and self.snapshot.settings is None:
            return Observation(resource.id, None, unknown=NOT_INSTALLED)
        if resource.id.kind == SETTINGS:
            return self._settings(resource)
        found = self.found(resource)
        if found is None:
            return None
        self._claimed.add((found.kind.name, found.index))
        seen = self._describe(resource.id, found)
        mark = found.mark
        if mark is None or mark.owner != self.owner:
            ownership, owner = (Ownership.FOREIGN, mark.owner) if mark else (Ownership.UNMARKED, "")
            return replace(seen, ownership=ownership, owner=owner)
        return replace(seen, stale_mark=self._stale(mark, Mark.of(resource, scope)), refused=self._refusal(resource, found))

    def _stale(self, mark: Mark, wanted: Mark) -> str:
        if self.snapshot.pending:
            return PENDING
        return "" if mark == wanted else mark.name if mark.name != wanted.name else str(mark)

    def _refusal(self, resource: Resource, found: Found) -> str:
        """Say why a resource cannot be written although its item was found."""
        several = self.ours.get(resource.id, [])
        if len(several) > 1:
            return f"{len(several)} objects carry the mark of {resource.id}; delete the copies on the firewall"
        name = text(found.item, "name")
        if name and name != getattr(resource.spec, "name", name) and self._alike(resource):
            return f"cannot be renamed from {name}, because an object of the new name exists"
        return ""

    def _settings(self, resource: Resource) -> Observation:
        assert self.snapshot.settings is not None
        handle = {"sha": self.snapshot.sha}
        stale = PENDING if self.snapshot.pending else ""
        live = settings_live(self.snapshot.settings)
        return Observation(resource.id, live, handle=handle, evidence=self._evidence(), stale_mark=stale)

    def unwanted(self) -> list[Observation]:
        """Describe what carries our mark and was not wanted."""
        free = {id: [one for one in found if (one.kind.name, one.index) not in self._claimed] for id, found in self.ours.items()}
        return [self._describe(id, found[0]) for id, found in free.items() if found and id not in self.wanted]

    def _describe(self, id: ResourceId, found: Found) -> Observation:
        live = found.kind.live(found.item, self.snapshot)
        notes: tuple[str, ...] = ()
        if found.kind is FORWARD:
            live, notes = self._forward(id, found, live)
        mark = found.mark
        return Observation(
            id,
            live,
            health=self._health(found),
            handle={"sha": self.snapshot.sha},
            evidence=self._evidence(),
            keep=mark is not None and mark.keep,
            notes=notes,
        )

    def _forward(self, id: ResourceId, found: Found, live: JSONObject) -> tuple[JSONObject, tuple[str, ...]]:
        """Say how the linked rule differs, and accept it where git says that it may."""
        wanted = self.wanted.get(id)
        rule = linked(found.item, self.snapshot)
        if rule is None or live["pass_rule"] is False:
            return live, ()
        if wanted is not None and isinstance(wanted.spec, PortForward) and not isinstance(wanted.spec.pass_rule, bool):
            return live | {"pass_rule": "edited"}, ()
        different = link_differences(found.item, rule.item)
        return live, (f"its linked pass rule was edited: {', '.join(different)}",) if different else ()

    def _evidence(self) -> Evidence | None:
        """Tell of the last change of the configuration, unless that was our own: it then says nothing about drift."""
        revision = self.snapshot.revision
        how, when = text(revision, "description"), text(revision, "time")
        if "reconciler " in how:
            return None
        return Evidence(text(revision, "username"), datetime.fromtimestamp(int(when), UTC) if when.isdigit() else None, how)

    def _health(self, found: Found) -> Health:
        running = self.snapshot.settings is not None and "enable" in self.snapshot.settings
        if found.kind not in (FRONTEND, BACKEND) or not running:
            return Health()
        if self.snapshot.stats is None:
            return Health(Level.UNKNOWN, "haproxy does not answer on its socket")
        name = text(found.item, "name")
        if found.kind is BACKEND:
            return _backend_health(name, self.snapshot.stats)
        if text(found.item, "status") != "active" or not {f"{name}/FRONTEND", f"{name}-merged/FRONTEND"}.isdisjoint(self.snapshot.stats):
            return Health()
        return Health(Level.DEGRADED, "is configured, but haproxy does not run it")


def _backend_health(name: str, stats: Mapping[str, str]) -> Health:
    """Judge a backend by its servers. One that no frontend uses is not run at all, and is well."""
    rendered = {f"{name}_ipvANY", f"{name}_ipv4", f"{name}_ipv6"}
    servers = {key.partition("/")[2]: state for key, state in stats.items() if key.partition("/")[0] in rendered}
    servers.pop("BACKEND", None)
    down = sorted(server for server, state in servers.items() if state.startswith(("DOWN", "MAINT", "NOLB")))
    if not down:
        return Health()
    words = f"{len(servers) - len(down)} of {len(servers)} servers are up; down: {', '.join(down)}"
    return Health(Level.DEGRADED if len(down) == len(servers) else Level.HEALTHY, words)
