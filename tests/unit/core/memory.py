"""A small system in memory, its plugin, and everything a test needs to run whole passes without a network and without waiting."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from threading import Event
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from reconciler.applying import Event as PassEvent
from reconciler.clock import Clock
from reconciler.driver import (
    Action,
    Change,
    Health,
    Level,
    Mark,
    Observation,
    Outcome,
    Ownership,
    Plugin,
    Scope,
    SecretNote,
    SecretReading,
    SecretVersion,
)
from reconciler.engine import Engine, Forgetful, Memory
from reconciler.errors import Conflict, Permanent, Transient
from reconciler.load import load_stack
from reconciler.observing import Observer
from reconciler.registry import Catalog
from reconciler.resource import JSONObject, Resource, ResourceId, ResourcePolicy, SecretRef, SecretValue, Spec, Text
from reconciler.resting import Rests
from reconciler.retry import Retry
from reconciler.settings import Engine as EngineSettings
from reconciler.stack import Stack
from reconciler.targets import Targets
from reconciler.writing import may_write

TODAY = date(2026, 4, 1)
NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)


# -- specs ----------------------------------------------------------------------------------------------------------------------


class Thing(Spec):
    """Something with a text and a size; ``zone`` cannot change in place."""

    text: Text = ""
    size: int = 1
    tags: dict[str, str] = Field(default_factory=dict)
    zone: str = ""
    needs: tuple[str, ...] = ()
    immutable: ClassVar[tuple[str, ...]] = ("/zone",)

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        return tuple(ResourceId("mem", "Thing", one) for one in self.needs)

    def exports(self, name: str) -> JSONObject:
        return {"url": f"mem://{name}"}


class Precious(Thing):
    """A thing whose identity carries history."""

    identity_bearing: ClassVar[bool] = True


class Secret(Spec):
    """A secret that the system generates when it is made."""

    path: str
    keys: tuple[str, ...] = ("password",)


# -- the system -----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Object:
    """One live object. ``sealed`` is the fingerprint under which its text was written."""

    number: int
    content: JSONObject
    mark: str = ""
    sealed: str = ""


@dataclass(slots=True)
class System:
    """The server: objects by ``Kind/name``, secrets by path, and switches for what goes wrong."""

    objects: dict[str, Object] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    notes: dict[str, SecretNote] = field(default_factory=dict)
    facts: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    on_note: Exception | None = None
    health: dict[str, list[Health]] = field(default_factory=dict)
    status: dict[str, JSONObject] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    on_read: list[Exception] = field(default_factory=list)
    on_write: list[Exception | None] = field(default_factory=list)
    fault: str = ""
    fault_times: int = 0
    stubborn: dict[str, JSONObject] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    before_write: Callable[[str], None] = lambda name: None

    @property
    def writes(self) -> int:
        return sum(1 for call in self.calls if not call.startswith(("list", "read")))

    def written(self) -> list[str]:
        """The writing calls in order, e.g. ``create Thing/a``."""
        return [call for call in self.calls if not call.startswith(("list", "read"))]

    def _fault(self, write: bool) -> str:
        if not self.fault_times or (self.fault.startswith("cut") and not write):
            return ""
        self.fault_times -= 1
        return self.fault

    def list(self) -> tuple[dict[str, Object], bool]:
        """Every object, and whether the listing is complete."""
        self.calls.append("list")
        if self.on_read:
            raise self.on_read.pop(0)
        match self._fault(False):
            case "rate-limit":
                raise Transient("mem: 429 too many requests", retry_after=7)
            case "server-error":
                raise Transient("mem: 503 try again")
            case "partial":
                names = sorted(self.objects)
                return {name: self.objects[name] for name in names[: len(names) // 2]}, False
        return dict(self.objects), True

    def write(self, verb: str, name: str, content: JSONObject | None = None, mark: str = "", sealed: str = "") -> None:
        """Execute one write: ``create``, ``update`` or ``delete``."""
        self.before_write(name)
        fault = self._fault(True)
        if fault == "rate-limit":
            raise Transient(f"{name}: 429 too many requests", retry_after=7)
        if fault in ("server-error", "cut-before"):
            raise Transient(f"{name}: {fault}")
        if self.on_write and (error := self.on_write.pop(0)) is not None:
            raise error
        self.calls.append(f"{verb} {name}")
        if verb == "delete":
            self.objects.pop(name, None)
        else:
            number = self.objects[name].number if verb == "update" else next(self.numbers)
            self.objects[name] = Object(number, {**(content or {}), **self.stubborn.get(name, {})}, mark, sealed)
        if fault == "cut-after":
            raise Transient(f"{name}: the connection was cut")

    def read(self, path: str) -> dict[str, str]:
        self.calls.append(f"read {path}")
        return self.secrets[path]

    def keep_secret(self, path: str, **values: str) -> None:
        """Write a secret behind everybody's back."""
        self.secrets[path] = values
        self.versions[path] = self.versions.get(path, 0) + 1


# -- the driver -----------------------------------------------------------------------------------------------------------------


class Config(BaseModel):
    """The target's settings."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    system: System
    token: str = ""


class MemoryDriver:
    """A driver that keeps every promise."""

    def __init__(self, config: Config) -> None:
        self.system = config.system
        self.closed = 0

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        with scope.span("LIST objects", wanted=len(wanted)):
            objects, complete = self.system.list()
        if not complete:
            raise Transient("mem: the listing is not complete")
        found = []
        asked = {key(one.id): one for one in wanted}
        for name, live in objects.items():
            mark = Mark.parse(live.mark)
            if name in asked or (mark is not None and mark.owner == scope.owner):
                found.append(self.see(name, live, mark, scope))
        return found

    def see(self, name: str, live: Object, mark: Mark | None, scope: Scope) -> Observation:
        id = ResourceId("mem", *name.split("/", 1))
        wish = scope.wanted.get(id)
        content = {**live.content}
        if live.sealed and content.get("text") is not None:
            content["text"] = f"secret:{live.sealed}"
        return Observation(
            id,
            content,
            mark.ownership(scope.owner) if mark else Ownership.UNMARKED,
            self.fares(name),
            {"number": live.number},
            keep=bool(mark and mark.keep),
            protect=bool(mark and mark.protect),
            owner=mark.owner if mark else "",
            stale_mark=mark.called if mark and wish and mark.owner == scope.owner and mark != Mark.of(wish, scope) else "",
            status=self.system.status.get(name) if id in scope.status_of else None,
        )

    def fares(self, name: str) -> Health:
        states = self.system.health.get(name)
        if not states:
            return Health()
        return states.pop(0) if len(states) > 1 else states[0]

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        from reconciler.writing import apply_each

        return apply_each(changes, lambda change: self.make(change, scope))

    def make(self, change: Change, scope: Scope) -> str | None:
        name = key(change.id)
        if change.desired is None:
            if name in self.system.objects:
                self.system.write("delete", name)
            return None
        content, sealed = self.content(change.desired, scope)
        mark = str(Mark.of(change.desired, scope))
        there = self.system.objects.get(name)
        if there is not None and change.action is Action.REPLACE and there.number == change.handle.get("number"):
            self.system.write("delete", name)
            there = None
        owner = Mark.parse(there.mark) if there is not None else None
        if there is not None and change.action is Action.CREATE and (owner is None or owner.owner != scope.owner):
            raise Conflict(f"{change.id}: somebody else made it meanwhile; plan again")
        self.system.write("create" if there is None else "update", name, content, mark, sealed)
        if isinstance(change.desired.spec, Secret):
            path = change.desired.spec.path
            if path not in self.system.secrets:
                self.system.keep_secret(path, **{one: f"generated-{one}" for one in change.desired.spec.keys})
        return None

    def content(self, resource: Resource, scope: Scope) -> tuple[JSONObject, str]:
        content = resource.spec.canonical(scope.fingerprint)
        text = getattr(resource.spec, "text", None)
        if isinstance(text, SecretRef):
            return {**content, "text": scope.reveal(text).reveal()}, scope.fingerprint(text)
        return content, ""

    def close(self) -> None:
        self.closed += 1

    # -- the second face: it keeps secrets -----------------------------------------------------------------------------------

    def versions(self, paths: Sequence[str], scope: Scope) -> Mapping[str, SecretVersion]:
        return {path: self.version(path) for path in paths if path in self.system.secrets}

    def version(self, path: str) -> SecretVersion:
        return SecretVersion(str(self.system.versions[path]), frozenset(self.system.secrets[path]), self.system.notes.get(path))

    def read(self, path: str, scope: Scope) -> SecretReading:
        if path not in self.system.secrets:
            raise Permanent(f"the secret {path} does not exist")
        values = {name: SecretValue(value) for name, value in self.system.read(path).items()}
        return SecretReading(values, str(self.system.versions[path]), self.system.facts.get(path, {}))

    def note(self, path: str, note: SecretNote, scope: Scope) -> None:
        may_write()
        if self.system.on_note:
            raise self.system.on_note
        self.system.notes[path] = note

    def provider(self, path: str, wanted: Sequence[Resource]) -> ResourceId | None:
        return next((one.id for one in wanted if isinstance(one.spec, Secret) and one.spec.path == path), None)


def key(id: ResourceId) -> str:
    return f"{id.kind}/{id.name}"


PLUGIN = Plugin(
    name="mem",
    api_version="mem/v1",
    kinds={"Thing": Thing, "Precious": Precious, "Secret": Secret},
    config=Config,
    driver="tests.unit.core.memory:MemoryDriver",
    keeps_secrets=True,
)
OTHER = Plugin("pool", "pool/v1", {"Thing": Thing}, Config, "tests.unit.core.memory:PoolDriver")
CATALOG = Catalog((PLUGIN, OTHER))


class PoolDriver(MemoryDriver):
    """The same system under another name, for stacks over two targets."""

    def see(self, name: str, live: Object, mark: Mark | None, scope: Scope) -> Observation:
        from dataclasses import replace

        seen = super().see(name, live, mark, scope)
        return replace(seen, id=ResourceId("pool", seen.id.kind, seen.id.name))


# -- stacks from text -----------------------------------------------------------------------------------------------------------

STACK = "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: test}\nspec: {}\n"


def tree(files: Mapping[str, str | bytes], folder: str = "desired/test") -> dict[str, bytes]:
    """File name -> content, with a plain ``stack.yaml`` where none is given."""
    with_stack = {"stack.yaml": STACK, **files}
    return {f"{folder}/{name}": text.encode() if isinstance(text, str) else text for name, text in with_stack.items()}


def stack_of(files: Mapping[str, str | bytes] | str, catalog: Catalog = CATALOG, *, today: date = TODAY) -> Stack:
    """Load the stack ``test``; a lone text is the file ``all.yaml``."""
    return load_stack(tree({"all.yaml": files} if isinstance(files, str) else files), "desired/test", catalog, today=today)


def stack_file(**spec: Any) -> str:
    """A ``stack.yaml`` with this spec (JSON is YAML)."""
    import json

    return f"apiVersion: reconciler/v1\nkind: Stack\nmetadata: {{name: test}}\nspec: {json.dumps(spec)}\n"


def thing(name: str, *, annotations: Mapping[str, Any] | None = None, kind: str = "Thing", group: str = "mem/v1", **spec: Any) -> str:
    """One document (JSON is YAML)."""
    import json

    metadata: JSONObject = {"name": name}
    if annotations:
        metadata["annotations"] = {f"reconciler/{one}": value for one, value in annotations.items()}
    return f"---\napiVersion: {group}\nkind: {kind}\nmetadata: {json.dumps(metadata)}\nspec: {json.dumps(spec)}\n"


def mem(name: str, kind: str = "Thing") -> ResourceId:
    return ResourceId("mem", kind, name)


def resource(
    name: str, policy: ResourcePolicy | None = None, *, needs: Sequence[str] = (), refs: Sequence[str] = (), **spec: Any
) -> Resource:
    """One wish, without a loader."""
    return Resource(
        mem(name),
        Thing.model_validate(spec),
        tuple(mem(one) for one in needs),
        tuple(mem(one) for one in refs),
        policy or ResourcePolicy(),
    )


# -- passes ---------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class FakeTime:
    """Time that passes only when somebody waits."""

    now: datetime = NOW
    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.seconds, self._wait)

    def _wait(self, event: Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)
        return event.is_set()


@dataclass(slots=True)
class Bench:
    """One installation over one or two systems in memory."""

    system: System = field(default_factory=System)
    pool: System | None = None
    memory: Memory = field(default_factory=Forgetful)
    time: FakeTime = field(default_factory=FakeTime)
    stop: Event = field(default_factory=Event)
    settings: EngineSettings = EngineSettings(attempts=3, backoff=1, backoff_max=30)
    catalog: Catalog = CATALOG
    heard: list[PassEvent] = field(default_factory=list)
    rests: Rests = field(default_factory=Rests)
    key: bytes = b"key"

    def engine(self) -> Engine:
        configs: dict[str, dict[str, Any]] = {"mem": {"system": self.system}}
        if self.pool is not None:
            configs["pool"] = {"system": self.pool}
        retry = Retry(self.settings, self.stop, self.time.clock(), jitter=lambda low, high: high)
        observer = Observer(Targets(configs, self.catalog), self.catalog, retry, "unit", self.key, workers=2)
        return Engine(observer, retry, self.memory, self.settings, self.heard.append, rests=self.rests)

    def plan(self, files: Mapping[str, str | bytes] | str, revision: str = "r1") -> Any:
        return self.engine().plan(stack_of(files, self.catalog, today=self.time.now.date()), revision)[0]

    def run(self, files: Mapping[str, str | bytes] | str, revision: str = "r1", **more: Any) -> Any:
        return self.engine().converge(stack_of(files, self.catalog, today=self.time.now.date()), revision, reason="test", **more)


def degraded(message: str = "broken") -> Health:
    return Health(Level.DEGRADED, message)


def progressing(message: str = "0/1 ready") -> Health:
    return Health(Level.PROGRESSING, message)


# -- the world of the contract ----------------------------------------------------------------------------------------------------


class MemoryWorld:
    """The system, looked at from behind the driver."""

    owner = "test/contract"
    faults = frozenset({"rate-limit", "server-error", "cut-before", "cut-after", "partial"})

    def __init__(self, driver: Callable[[Config], Any] = MemoryDriver) -> None:
        self.system = System()
        self.driver = driver

    def open(self) -> Any:
        return self.driver(Config(system=self.system))

    def samples(self) -> Sequence[Any]:
        from reconciler.testing import Sample

        secret = SecretRef('${vault("app", "token")}', (("app", "token"),))
        return [
            Sample(resource("plain", text="Hello", tags={"a": "1", "b": "2"}), resource("plain", text="Hello", size=2, tags={"a": "1"})),
            Sample(
                resource("child", size=3, needs=["base"]),
                resource("child", size=4, needs=["base"]),
                (resource("base", text="under"),),
            ),
            Sample(resource("sealed", text=secret), resource("sealed", text=secret, size=9)),
        ]

    def peek(self) -> Mapping[str, tuple[str, JSONObject]]:
        return {name: (str(one.number), {**one.content, "mark": one.mark}) for name, one in self.system.objects.items()}

    def locate(self, resource: Resource) -> str:
        return key(resource.id)

    def plant(self, resource: Resource) -> None:
        content = resource.spec.canonical(lambda ref: "")
        self.system.objects[key(resource.id)] = Object(next(self.system.numbers), content)

    def meddle(self, resource: Resource) -> None:
        self.system.objects[key(resource.id)].content["size"] = 77

    def remove(self, resource: Resource) -> None:
        del self.system.objects[key(resource.id)]

    def writes(self) -> int:
        return self.system.writes

    @contextmanager
    def fail(self, fault: str, *, times: int = 1_000_000) -> Iterator[None]:
        self.system.fault, self.system.fault_times = fault, times
        try:
            yield
        finally:
            self.system.fault, self.system.fault_times = "", 0

    def secret_values(self) -> Sequence[str]:
        return ["s3cr3t-token-value"]
