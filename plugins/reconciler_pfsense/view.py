"""One snapshot of a firewall as observations: which item is which resource, whose it is, and how it fares. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from reconciler.driver import Action, Change, Evidence, Health, Level, Mark, Observation, Ownership, Scope
from reconciler.errors import Conflict
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_pfsense.agent import Snapshot, foreign_revisions
from reconciler_pfsense.fields import DRIVER
from reconciler_pfsense.haproxy import BACKEND, FRONTEND, settings_live
from reconciler_pfsense.items import RULES, Found, Meaning, text
from reconciler_pfsense.native import BY_NAME
from reconciler_pfsense.rules import FORWARD, RULE, forward_of_rule, link_differences, linked
from reconciler_pfsense.spec import PortForward

SETTINGS = "HAProxySettings"
NOT_INSTALLED = "the package haproxy is not installed on the firewall; install it under System > Package Manager"
PENDING = "saved but not loaded"
EVIDENCE = 3
"""So many changes of others are told at most."""


class View:
    """One snapshot seen by one owner: which item is which wanted resource, and what of ours nobody wants."""

    def __init__(self, snapshot: Snapshot, owner: str, wanted: Sequence[Resource]) -> None:
        """Index the items by the marks they carry."""
        self.snapshot = snapshot
        self.owner = owner
        self.wanted = {resource.id: resource for resource in wanted}
        self.items = {name: kind.all(snapshot) for name, kind in BY_NAME.items()}
        self.alike: dict[tuple[str, Meaning], list[Found]] = {}
        for found in (one for several in self.items.values() for one in several):
            self.alike.setdefault((found.kind.name, found.kind.means(found.item)), []).append(found)
        self.meant: dict[tuple[str, Meaning], list[ResourceId]] = {}
        for resource in wanted:
            self.meant.setdefault(_identity(resource), []).append(resource.id)
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

    def target(self, change: Change) -> Found | None:
        """Give the item that a change was planned for. Raises Conflict when a stranger stands where a new one was planned."""
        if change.desired is None:
            return self.marked(change.id)
        marked, was = self.marked(change.id), str(change.handle.get("was", ""))
        if marked is None or marked.index < 0:
            marked = self.marked(ResourceId.parse(was)) if was else None
        if marked is not None:
            return marked
        strangers = [one for one in self._alike(change.desired) if one.mark is None or one.mark.owner != self.owner]
        if change.action is Action.ADOPT or change.desired.id.kind == RULE.name:
            return next((one for one in strangers if change.action is Action.ADOPT), None)
        if strangers:
            raise Conflict(f"{change.id}: an object of that name is there that carries no mark of ours; nothing was written")
        return None

    def _alike(self, resource: Resource) -> list[Found]:
        return self.alike.get((resource.id.kind, BY_NAME[resource.id.kind].meant(resource.spec)), [])

    def _spoken_for(self, found: Found) -> bool:
        """Say whether the item is marked as another resource that is wanted as well."""
        mark = found.mark
        return mark is not None and mark.owner == self.owner and ResourceId(DRIVER, mark.kind, mark.name) in self.wanted

    def observation(self, resource: Resource, scope: Scope) -> Observation | None:
        """Say what is there of a wanted resource; None when nothing is."""
        if resource.id.kind.startswith("HAProxy") and self.snapshot.settings is None:
            return Observation(resource.id, None, unknown=NOT_INSTALLED)
        if resource.id.kind == SETTINGS:
            return replace(self._settings(resource), refused=self._twin(resource))
        found, twin = self.found(resource), self._twin(resource)
        if found is None:
            return Observation(resource.id, None, refused=twin) if twin else None
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
        if twin := self._twin(resource):
            return twin
        if len(several) > 1:
            return f"{len(several)} objects carry the mark of {resource.id}; delete the copies on the firewall"
        rivals = [one for one in self._alike(resource) if one.index != found.index and not self._spoken_for(one)]
        if not rivals or found.kind is RULE:  # two equal rules do no harm
            return ""
        name = text(found.item, "name")
        if name and name != getattr(resource.spec, "name", name):
            return f"cannot be renamed from {name}, because an object of the new name exists"
        return "another object for the same is there, and only the first of them works; delete one on the firewall"

    def _twin(self, resource: Resource) -> str:
        """Say which other wanted resource means the same object."""
        if resource.id.kind == RULE.name:  # equal rules may stand side by side
            return ""
        other = next((id for id in self.meant[_identity(resource)] if id != resource.id), None)
        return f"{other} means the same object; take one of the two out of git" if other else ""

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
        ours = mark is not None and mark.owner == self.owner
        return Observation(
            id,
            live,
            health=self._health(found),
            handle={"sha": self.snapshot.sha, "was": str(ResourceId(DRIVER, mark.kind, mark.name)) if ours and mark else ""},
            evidence=self._evidence(),
            keep=mark is not None and mark.keep,
            protect=mark is not None and mark.protect,
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
        """Tell who changed the configuration since our last write. Our own write says nothing about drift."""
        changes = foreign_revisions(self.snapshot.revision, self.snapshot.history)
        if not changes:
            return None
        names = dict.fromkeys(text(one, "username") or text(one, "description").partition(": ")[0] for one in changes[:EVIDENCE])
        how = "; ".join(dict.fromkeys(text(one, "description") for one in changes[:EVIDENCE]))
        when = text(changes[0], "time")
        return Evidence(" or ".join(names), datetime.fromtimestamp(int(when), UTC) if when.isdigit() else None, how)

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


def _identity(resource: Resource) -> tuple[str, Meaning]:
    """Give what a resource stands for."""
    kind = BY_NAME.get(resource.id.kind)
    return resource.id.kind, kind.meant(resource.spec) if kind is not None else ()


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
