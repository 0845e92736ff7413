"""Observe a firewall in one execution, and write all changes of a wave as one transaction in another.

``view`` says what is what, ``native`` what to edit; ``client`` carries the edits to the firewall, where ``agent.php`` makes them.
"""

import time
from collections.abc import Iterator, Sequence
from threading import Event

from reconciler.driver import Action, Change, Mark, Observation, Outcome, Scope, Status
from reconciler.errors import Conflict, DriverError, Transient
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler.writing import failed, may_write
from reconciler_pfsense.agent import OURS, Program, Snapshot, Used, transaction_id
from reconciler_pfsense.client import Client
from reconciler_pfsense.config import Config
from reconciler_pfsense.items import Edit, Found, text
from reconciler_pfsense.native import BY_NAME, deletes_for, edits_for, is_done, needs_reload
from reconciler_pfsense.view import SETTINGS, View
from reconciler_pfsense.watch import watch
from reconciler_pfsense.xmlrpc import XmlRpcClient


def open_client(config: Config) -> Client | XmlRpcClient:
    """Give the way to the firewall that the settings name."""
    return XmlRpcClient(config) if config.transport == "xmlrpc" else Client(config)


class PfSenseDriver:
    """One firewall. Keeps what it saw last, because edits are made for exactly that state and refused for any other."""

    def __init__(self, config: Config) -> None:
        """Take the target's settings; connects when first used."""
        self.config = config
        self.client = open_client(config)
        self._seen: Snapshot | None = None
        self._lineage: set[str] = set()

    def close(self) -> None:
        """Let go of the connection."""
        self.client.close()

    def watch(self, scope: Scope, stop: Event) -> Iterator[ResourceId | None]:
        """Yield a hint for each change that somebody else made, until ``stop`` is set. Raises DriverError, see ``watch``."""
        return watch(open_client(self.config), scope, stop, self.config.watch_interval)

    # -- observe ---------------------------------------------------------------------------------------------------------------

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """Say what is there. Raises Transient or Permanent when the firewall cannot be seen."""
        snapshot = self._look(scope)
        view = View(snapshot, scope.owner, wanted)
        seen = [view.observation(resource, scope) for resource in wanted]
        return [*(one for one in seen if one is not None), *view.unwanted()]

    def _look(self, scope: Scope) -> Snapshot:
        with scope.span("php observe", target=self.client.target):
            self._seen = Snapshot.of(self.client.run(Program.of("observe")))
        self._lineage = {self._seen.sha}
        return self._seen

    # -- apply -----------------------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        """Make all changes as one transaction, so that they share one fate.

        Deletes that are refused because somebody still uses what would go fail alone; the others are then made without them.
        """
        started = time.monotonic()
        rest = [change for change in changes if change.desired is not None]
        try:
            self._transact(changes, scope)
        except DriverError as error:
            if isinstance(error, Used) and 0 < len(rest) < len(changes):
                refused = [change for change in changes if change.desired is None]
                return [*_outcomes(refused, error, time.monotonic() - started), *self.apply(rest, scope)]
            if not isinstance(error, Transient | Used):
                self._seen = None  # the firewall may have gone back to another revision; look before the next write
            return _outcomes(changes, error, time.monotonic() - started)
        return _outcomes(changes, None, time.monotonic() - started)

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
            description=f"{OURS}{scope.owner} {scope.revision[:12]}".strip(),
            edits=edits,
            gone=gone,
            filter=rules,
            haproxy=haproxy,
            lock_seconds=self.config.lock_timeout,
        )
        may_write()
        with scope.span("php apply", target=self.client.target, edits=len(edits)):
            self._seen = Snapshot.of(self.client.run(program))
        self._lineage.add(self._seen.sha)

    def _edits(self, change: Change, view: View, scope: Scope) -> tuple[list[Edit], list[JSONObject]]:
        """Give the edits of one change, and the names that are gone after it."""
        found = view.target(change) if change.id.kind != SETTINGS else None
        if change.desired is not None:
            edits = _wanted_edits(change, found, view.snapshot, scope)
        else:  # the settings of the package stay as they are when git no longer names them
            edits = deletes_for(found, view.snapshot) if found else []
        self._refuse_stale(change, edits, view.snapshot)
        names = [text(found.item, "name")] if found and (change.desired is None or change.action is Action.REPLACE) else []
        return edits, [{"kind": change.id.kind, "name": name} for name in names if name and change.id.kind in ("Alias", "HAProxyBackend")]

    def _refuse_stale(self, change: Change, edits: Sequence[Edit], snapshot: Snapshot) -> None:
        """Refuse a plan made for another state of the firewall, unless what it wants is so already."""
        planned_for = change.handle.get("sha", snapshot.sha)
        if planned_for not in self._lineage and not all(is_done(edit, snapshot) for edit in edits):
            who = text(snapshot.revision, "username", "somebody")
            raise Conflict(f"{change.id}: the configuration was changed by {who} since this was planned; the next pass plans anew")


def _outcomes(changes: Sequence[Change], error: DriverError | None, seconds: float) -> list[Outcome]:
    """Give the one fate of all changes; each has its share of the time."""
    share = seconds / max(len(changes), 1)
    return [Outcome(one.id, Status.APPLIED, "", share) if error is None else failed(one.id, error, share) for one in changes]


def _wanted_edits(change: Change, found: Found | None, snapshot: Snapshot, scope: Scope) -> list[Edit]:
    assert change.desired is not None
    spec, mark = change.desired.spec, Mark.of(change.desired, scope)
    if change.action is Action.REPLACE and found is not None:
        return [*deletes_for(found, snapshot), *edits_for(spec, mark, None, snapshot)]
    return edits_for(spec, mark, found, snapshot)
