"""Writes one zone: a fresh look, transactions as large as allowed, and, when one is refused, the search for the culprit."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from reconciler.driver import Change, Outcome, Scope, Status
from reconciler.errors import Conflict, DriverError, Permanent, Transient
from reconciler.resource import ResourceId
from reconciler.writing import failed
from reconciler_cloudflare.batch import Bundle, Snapshot, Unit, body, bundles, chunks, paired, unit_of
from reconciler_cloudflare.client import Client, Refusal
from reconciler_cloudflare.match import Live, form_wanted
from reconciler_cloudflare.spec import describe

IDENTICAL = frozenset({81057, 81058})
GONE = frozenset({81044})


class ZoneWriter:
    """One use: ``write`` the changes of one zone and give their outcomes."""

    def __init__(self, client: Client, zone: str, scope: Scope, limit: int) -> None:
        """Work on ``zone`` with at most ``limit`` operations in one call."""
        self._client, self._zone, self._scope, self._limit = client, zone, scope, limit
        self._outcomes: dict[ResourceId, Outcome] = {}
        self._started = time.monotonic()

    def write(self, changes: Sequence[Change]) -> dict[ResourceId, Outcome]:
        """Apply ``changes``; each gets one outcome. Raises nothing that is a DriverError."""
        try:
            zone = self._look()
            bound = bundles(paired(self._units(changes, zone), zone, self._scope))
            for chunk in chunks(self._within_quota(bound), self._limit):
                self._send(chunk)
        except DriverError as error:
            self._fail((change for change in changes if change.id not in self._outcomes), error)
        return self._outcomes

    def _look(self) -> Snapshot:
        with self._scope.span("GET dns_records", zone=self._zone):
            return Snapshot([Live.read(self._zone, record) for record in self._client.records(self._zone)])

    def _units(self, changes: Sequence[Change], zone: Snapshot) -> list[Unit]:
        units = []
        for change in changes:
            try:
                unit = unit_of(change, zone, self._scope)
            except DriverError as error:
                self._fail([change], error)
                continue
            if unit is None:
                self._done([change], "was so already")
            else:
                units.append(unit)
        return units

    def _within_quota(self, bound: list[Bundle]) -> list[Bundle]:
        """Refuse what adds records when the zone has no room for all of it: half of a mail setup is worse than none."""
        adding = [bundle for bundle in bound if sum(unit.added for unit in bundle) > 0]
        if not adding:
            return bound
        with self._scope.span("GET dns_records/usage", zone=self._zone):
            quota, used = self._client.usage(self._zone)
        change = sum(unit.added for bundle in bound for unit in bundle)
        if quota is None or used + change <= quota:
            return bound
        for unit in (unit for bundle in adding for unit in bundle):
            text = f"the zone {self._zone} holds {used} of at most {quota} records, so {change} more do not fit; delete some first"
            self._fail(unit.changes, Permanent(text))
        return [bundle for bundle in bound if bundle not in adding]

    def _again(self, chunk: Sequence[Bundle]) -> list[Bundle]:
        """Look again after a refusal, and ask anew for what is still missing: the zone may have moved under our feet."""
        zone = self._look()
        return bundles(paired(self._units(_changes(chunk), zone), zone, self._scope))

    def _send(self, chunk: Sequence[Bundle], *, halved: bool = False) -> None:
        """Send one call. Refused, nothing of it was applied: halve it until the culprit stands alone, and apply the rest."""
        operations = body(chunk)
        try:
            with self._scope.span("POST dns_records/batch", zone=self._zone, **{name: len(part) for name, part in operations.items()}):
                self._client.batch(self._zone, operations)
        except Refusal as error:
            if len(chunk) == 1:
                self._refused(chunk[0], error)
                return
            chunk = chunk if halved else self._again(chunk)
            for half in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
                if half:
                    self._send(half, halved=True)
            return
        except DriverError as error:
            self._fail(_changes(chunk), error)
            raise
        self._done(_changes(chunk), "")

    def _refused(self, bundle: Bundle, error: Refusal) -> None:
        """Judge one bundle that was refused alone; another look tells a lost race from a real refusal."""
        if not error.codes & (IDENTICAL | GONE):
            self._fail(_changes([bundle]), error)
            return
        zone = self._look()
        for change in _changes([bundle]):
            try:
                self._rejudge(change, zone, error, alone=len(bundle) == 1)
            except DriverError as verdict:
                self._fail([change], verdict)

    def _rejudge(self, change: Change, zone: Snapshot, error: Refusal, *, alone: bool) -> None:
        if unit_of(change, zone, self._scope) is None:
            self._done([change], "was so already")
            return
        twin = zone.equal(form_wanted(change.desired)) if change.desired is not None else None
        if twin is not None:
            raise Conflict(f"{describe(twin.form)} exists already; {error}")
        raise Transient(f"{error}; the listing does not show it yet") if alone else error

    def _done(self, changes: Iterable[Change], message: str) -> None:
        for change in changes:
            self._outcomes[change.id] = Outcome(change.id, Status.APPLIED, message, time.monotonic() - self._started)

    def _fail(self, changes: Iterable[Change], error: DriverError) -> None:
        for change in changes:
            outcome = failed(change.id, error, time.monotonic() - self._started)
            named = outcome.message.startswith(str(change.id)) or outcome.status is not Status.FAILED
            self._outcomes[change.id] = outcome if named else replace(outcome, message=f"{change.id}: {error}")


def _changes(chunk: Iterable[Bundle]) -> list[Change]:
    return [change for bundle in chunk for unit in bundle for change in unit.changes]
