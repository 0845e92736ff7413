"""What the emulated cluster holds: objects under one version counter, and the events that watches follow."""

import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.kinds import Kind, built_in, of_crd

Key = tuple[str, str]
Name = tuple[str, str]


def now() -> str:
    """Give the present second in RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass(frozen=True, slots=True)
class Event:
    """One change, as a watch tells it. ``before`` is the object as it was, for selectors that no longer match."""

    sort: str
    version: int
    key: Key
    whole: JSONObject
    before: JSONObject | None = None


@dataclass(slots=True)
class Store:
    """The objects by (group, plural) and (namespace, name). All access is under ``lock``.

    ``oldest`` is the version before which watches know nothing, ``compacted`` the last one of which lists know nothing. ``pace`` is how
    many of the cluster's seconds pass in one of ours.
    """

    lock: threading.RLock = field(default_factory=threading.RLock)
    version: int = 100
    oldest: int = 0
    compacted: int = 0
    objects: dict[Key, dict[Name, JSONObject]] = field(default_factory=dict)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=50_000))
    kinds: dict[tuple[str, str, str], Kind] = field(default_factory=dict)
    births: dict[str, float] = field(default_factory=dict)
    pace: float = 1.0

    def __post_init__(self) -> None:
        """Serve the built-in kinds."""
        self.kinds = {(one.group, one.version, one.plural): one for one in built_in()}

    def get(self, key: Key, namespace: str, name: str) -> JSONObject | None:
        """Give a copy of one object."""
        found = self.objects.get(key, {}).get((namespace, name))
        return deepcopy(found) if found is not None else None

    def peek(self, key: Key, namespace: str, name: str) -> JSONObject | None:
        """Give one object itself, to look at only."""
        return self.objects.get(key, {}).get((namespace, name))

    def all(self, key: Key, namespace: str = "") -> list[JSONObject]:
        """List objects in the order of their names, to look at only."""
        found = self.objects.get(key, {})
        return [found[name] for name in sorted(found) if not namespace or name[0] == namespace]

    def at(self, key: Key, namespace: str, version: int) -> list[JSONObject]:
        """List objects as they were at an older version."""
        found = dict(self.objects.get(key, {}))
        for event in reversed(self.events):
            if event.version <= version:
                break
            if event.key == key:
                name = (event.whole["metadata"].get("namespace", ""), event.whole["metadata"]["name"])
                if event.before is None:
                    found.pop(name, None)
                else:
                    found[name] = event.before
        return [found[name] for name in sorted(found) if not namespace or name[0] == namespace]

    def since(self, key: Key, version: int) -> list[Event]:
        """List the events of a kind after a version, oldest first."""
        found = list[Event]()
        for event in reversed(self.events):
            if event.version <= version:
                break
            if event.key == key:
                found.append(event)
        return found[::-1]

    def compact(self, version: int) -> None:
        """Let no list be asked for as it was up to this version; watches still know what came after ``oldest``."""
        self.compacted = max(self.compacted, min(version, self.version))

    @property
    def bygone(self) -> int:
        """The last version of which no list can be given any more."""
        return max(self.compacted, self.oldest)

    def _tell(self, event: Event) -> None:
        if len(self.events) == self.events.maxlen:
            self.oldest = max(self.oldest, self.events[0].version)
        self.events.append(event)

    def age(self, whole: JSONObject) -> int:
        """Tell an object's age in the cluster's seconds, counted from the moment of its creation."""
        return int((time.monotonic() - self.births.get(whole["metadata"]["uid"], time.monotonic())) * self.pace)

    def next(self) -> int:
        """Count one more version."""
        self.version += 1
        return self.version

    def put(self, kind: Kind, whole: JSONObject) -> JSONObject:
        """Store an object under a new version."""
        name = (whole["metadata"].get("namespace", ""), whole["metadata"]["name"])
        before = self.objects.get(kind.key, {}).get(name)
        whole["metadata"]["resourceVersion"] = str(self.next())
        self.objects.setdefault(kind.key, {})[name] = deepcopy(whole)
        if before is None:
            self.births[whole["metadata"]["uid"]] = time.monotonic()
        self._tell(Event("MODIFIED" if before else "ADDED", self.version, kind.key, self.objects[kind.key][name], before))
        return whole

    def drop(self, kind: Kind, whole: JSONObject) -> None:
        """Forget an object."""
        name = (whole["metadata"].get("namespace", ""), whole["metadata"]["name"])
        gone = self.objects.get(kind.key, {}).pop(name, None)
        if gone is not None:
            self.births.pop(gone["metadata"]["uid"], None)
            last = deepcopy(gone)
            last["metadata"]["resourceVersion"] = str(self.next())
            self._tell(Event("DELETED", self.version, kind.key, last, gone))

    def define(self, crd: JSONObject) -> None:
        """Serve what a CRD defines, and no longer what it defined before."""
        self.undefine(crd)
        self.kinds |= {(one.group, one.version, one.plural): one for one in of_crd(crd)}

    def undefine(self, crd: JSONObject) -> None:
        """Serve a CRD's kinds no longer."""
        gone = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        self.kinds = {key: one for key, one in self.kinds.items() if one.key != gone}

    def count(self) -> Iterator[tuple[str, int]]:
        """Tell how many objects of each kind there are."""
        for kind in {one.key: one for one in self.kinds.values()}.values():
            number = len(self.objects.get(kind.key, {}))
            if number:
                yield kind.name, number


def new_uid() -> str:
    """Make an object's id."""
    return str(uuid.uuid4())
