"""Hints from the cluster: a metadata-only watch for each kind of the stack, judged by the same local compare as a listing.

An object that is as we left it gives no hint, so our own writes are silent without any bookkeeping. The loop is ours because that of
the vendor library never advances its version. A watch that breaks off is taken up where it stopped; one that the server has forgotten
(410) begins with a new listing, in which whatever was missed shows.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from random import SystemRandom
from threading import Event, Lock, Thread

from reconciler.driver import Ownership, Scope
from reconciler.errors import DriverError, Transient
from reconciler.resource import JSONObject, ResourceId
from reconciler_k8s import applyset
from reconciler_k8s.answers import Forbidden, NotFound
from reconciler_k8s.client import METADATA, METADATA_LIST, Call, Cluster, Served
from reconciler_k8s.expected import left_alone
from reconciler_k8s.ownership import PART_OF, Wish, evidence_of, field_manager, in_sync, make_wish
from reconciler_k8s.seals import Seal
from reconciler_k8s.sight import content_of, found_in
from reconciler_k8s.spec import KubernetesObject, config_hash

LIFE = 300
"""Seconds after which the server ends a watch; the next one goes on where it stopped."""
SILENCE = 90
"""Seconds without a byte after which a connection counts as dead; a server sends a bookmark about every 60."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
TICK = 0.2
"""Seconds between two looks at ``stop``."""

log = logging.getLogger(__name__)


class Expired(Exception):
    """The server no longer knows the version at which the watch would go on."""


def wishes_of(scope: Scope, part_of: str) -> dict[ResourceId, Wish]:
    """Work out what every wanted object of this driver must look like."""
    seal, content = Seal.of(scope.fingerprint), content_of(scope.wanted.values())
    return {
        id: make_wish(one, scope, seal, part_of, config_hash(one.spec, content, scope.fingerprint))
        for id, one in scope.wanted.items()
        if isinstance(one.spec, KubernetesObject)
    }


@dataclass(slots=True)
class Watch:
    """The watches of one stack, each in a thread of its own, feeding one queue."""

    cluster: Cluster
    scope: Scope
    stop: Event
    wishes: Mapping[ResourceId, Wish] = field(default_factory=dict)
    hints: "SimpleQueue[ResourceId | None]" = field(default_factory=SimpleQueue)
    _ends: set[Callable[[], None]] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)
    _ended: Event = field(default_factory=Event)

    def run(self) -> Iterator[ResourceId | None]:
        """Yield hints until ``stop`` is set. Raises DriverError when the cluster cannot be reached at the beginning."""
        applied = applyset.ApplySet(self.scope.owner, self.cluster.config.inventory_namespace)
        self.wishes = wishes_of(self.scope, applied.id)
        threads = [
            Thread(target=copy_context().run, args=(self._follow, served, space, applied.id), daemon=True, name=f"watch {served.plural}")
            for served, space in self._places(applied)
        ]
        for thread in threads:
            thread.start()
        try:
            while not self.stop.is_set():
                try:
                    yield self.hints.get(timeout=TICK)
                except Empty:
                    continue
        finally:
            self._ended.set()
            with self._lock:
                for end in self._ends:
                    end()
            for thread in threads:
                thread.join(timeout=2)

    def _places(self, applied: applyset.ApplySet) -> Iterator[tuple[Served, str]]:
        """Give what to watch: every kind of the stack, in the whole cluster or in each namespace where rights are narrow."""
        served = self.cluster.discover()
        remembered = applyset.read(self.cluster, applied)
        kinds = {(one.group, one.kind): one for one in applyset.kinds_served(remembered.kinds, served)}
        for wish in self.wishes.values():
            if (one := served.get((wish.spec.api_version, wish.spec.kind))) is not None:
                kinds[one.group, one.kind] = one
        spaces = sorted({*remembered.namespaces, *(wish.namespace for wish in self.wishes.values())} - {""})
        for one in kinds.values():
            if self.cluster.places(one, spaces) == [""] and one.namespaced:
                self._try_to_list(one)
            yield from ((one, space) for space in self.cluster.places(one, spaces))

    def _try_to_list(self, served: Served) -> None:
        """Learn whether a kind may be listed in the whole cluster."""
        with suppress(NotFound):
            try:
                self.cluster.any(served, "", f"{PART_OF}=none")
            except Forbidden:
                self.cluster.narrow.add(served)

    # -- one kind ------------------------------------------------------------------------------------------------------------

    def _follow(self, served: Served, space: str, part_of: str) -> None:
        """List, watch, watch again, until the end; after trouble wait a little longer each time."""
        version, pause = "", FIRST_PAUSE
        while not self._ended.is_set():
            begun = version
            try:
                version = version or self._relist(served, space, part_of)
                for reached in self._events(served, space, part_of, version):
                    version, pause = reached, FIRST_PAUSE
            except Expired:
                version = ""
            except Forbidden as error:
                log.warning("%s; changes of that kind are found by the next pass only", error)
                return
            except DriverError as error:
                if self._ended.wait(pause * SystemRandom().uniform(0.5, 1)):
                    return
                log.info("%s; the watch is taken up again", error)
                version = version if version != begun else ""  # no event since the last trouble: it may be the version itself
                pause = min(pause * 2, LONGEST_PAUSE)

    def _relist(self, served: Served, space: str, part_of: str) -> str:
        """List once: hint at what differs and at what is missing. Gives the version at which a watch goes on."""
        missing = {
            id
            for id, wish in self.wishes.items()
            if (wish.spec.api_version, wish.spec.kind) == (served.api_version, served.kind) and space in ("", wish.namespace)
        }
        query = {"labelSelector": f"{PART_OF}={part_of}", "limit": str(self.cluster.config.page)}
        version = ""
        while True:
            call = Call("GET", served.path(space), f"list {served.plural}", query, METADATA_LIST)
            _, answer = self.cluster.send(call)
            metadata = answer.get("metadata") or {}
            version = version or str(metadata.get("resourceVersion") or "")
            for item in answer.get("items") or ():
                missing.discard(self._consider(served, item))
            if not metadata.get("continue"):
                break
            query = {**query, "continue": metadata["continue"]}
        for id in sorted(missing):
            self.hints.put(id)
        return version

    def _events(self, served: Served, space: str, part_of: str, version: str) -> Iterator[str]:
        """Follow one connection to its end and give the version reached after each event."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "labelSelector": f"{PART_OF}={part_of}",
            "resourceVersion": version,
            "timeoutSeconds": str(LIFE),
        }
        call = Call("GET", served.path(space), f"watch {served.plural}", query, METADATA)
        with self.cluster.stream(call, SILENCE) as (end, lines):
            with self._lock:
                self._ends.add(end)
            try:
                for line in lines:
                    yield self._event(served, json.loads(line))
            finally:
                with self._lock:
                    self._ends.discard(end)

    def _event(self, served: Served, event: JSONObject) -> str:
        whole = event.get("object") or {}
        match event.get("type"):
            case "ERROR":
                if whole.get("code") == 410:
                    raise Expired
                raise Transient(f"watch {served.plural}: the server ends it with {whole.get('code')} {whole.get('reason', '')}")
            case "DELETED":
                self._left(served, whole)
            case "ADDED" | "MODIFIED":
                self._consider(served, whole)
        return str(whole["metadata"]["resourceVersion"])

    def _consider(self, served: Served, item: JSONObject) -> ResourceId:
        """Hint at one object unless it is as we left it."""
        found = found_in(served, item, self.scope.owner, whole=False)
        wish = self.wishes.get(found.id)
        if wish is None:
            if found.ownership is Ownership.OURS and not found.metadata.get("deletionTimestamp"):
                self._hint(found.id, found.metadata)
            return found.id
        left = left_alone(wish, self.scope.owner, found.metadata, None)
        ours = found.ownership is Ownership.OURS and not found.metadata.get("deletionTimestamp")
        if not ours or not in_sync(wish.without(left), found.metadata, self.scope):
            self._hint(found.id, found.metadata)
        return found.id

    def _left(self, served: Served, item: JSONObject) -> None:
        """Look after an object that has left the selection: it is deleted, or it lives on without our label."""
        found = found_in(served, item, self.scope.owner, whole=False)
        if found.id not in self.wishes:
            return
        metadata, about = item["metadata"], str(found.id)
        try:
            call = Call("GET", served.path(metadata.get("namespace", ""), metadata["name"]), about, accept=METADATA)
            self._consider(served, self.cluster.send(call)[1])
        except NotFound:
            log.info("%s was deleted", about)
            self.hints.put(found.id)
        except DriverError:
            self.hints.put(found.id)

    def _hint(self, id: ResourceId, metadata: JSONObject) -> None:
        evidence = evidence_of(metadata, field_manager(self.scope.owner))
        if evidence is not None:
            log.info("%s was changed by %s (%s)", id, evidence.who, evidence.how)
        self.hints.put(id)
