"""What a plugin sees. A driver has two verbs, ``observe`` and ``apply``; everything else about a pass is the core's business.

A plugin imports this room, ``resource``, ``errors``, ``writing`` and ``cel``, its own files and its vendor library; nothing else of the
core and no other plugin. This room is pure: it holds values and protocols, starts nothing and reads nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pydantic import BaseModel

from reconciler.errors import Permanent
from reconciler.resource import JSONObject, Resource, ResourceId, SecretRef, SecretValue, Spec

if TYPE_CHECKING:
    from threading import Event


class Level(IntEnum):
    """The scale of health, from best to worst, so that ``max`` of several levels is the one to show."""

    HEALTHY = 0
    PROGRESSING = 1
    UNKNOWN = 2
    DEGRADED = 3


@dataclass(frozen=True, slots=True)
class Health:
    """How a live object fares, with a message a person understands."""

    level: Level = Level.HEALTHY
    message: str = ""

    @property
    def ok(self) -> bool:
        """True when what depends on this may go on."""
        return self.level is Level.HEALTHY


@dataclass(frozen=True, slots=True)
class Evidence:
    """Who changed a live object, when (aware datetime) and how, in the words of its own system. Empty where it does not say."""

    who: str = ""
    when: datetime | None = None
    how: str = ""


class Ownership(StrEnum):
    """Whose mark a live object carries."""

    OURS = "ours"
    UNMARKED = "unmarked"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Observation:
    """What a driver saw of one resource. One is returned for every wanted resource that exists and for everything the stack owns.

    ``live`` has the keys of ``Spec.canonical``; None means that the object does not exist (only useful together with ``refused``,
    ``status``, ``notes``, or ``evidence`` of who took it away). ``predicted`` is what the server says the object would become; when it is
    given, it is compared instead of the spec.
    ``handle`` is the system's own id and whatever the driver wants back at the write; opaque to the core, must be JSON.
    ``unknown`` says why the object could not be seen: nothing is then created or deleted. ``refused`` says why it was seen but must
    not be written. ``replace`` says why the change cannot be made in place. ``keep`` is true when the mark forbids pruning, ``protect``
    when it asks for a person's word before: git is gone then, and our own memory may be, too.
    ``applied`` is the ``Resource.digest`` that the mark says was written last, where a mark has room for it. ``stale_mark`` is the
    name found in a mark of ours that must be rewritten, because git calls the same object something else now. ``follows`` is true when
    the object differs only because something that it reads does: its change then has the cause of what it follows.
    """

    id: ResourceId
    live: JSONObject | None
    ownership: Ownership = Ownership.OURS
    health: Health = Health()
    handle: JSONObject = field(default_factory=dict)
    predicted: JSONObject | None = None
    evidence: Evidence | None = None
    unknown: str = ""
    refused: str = ""
    replace: str = ""
    keep: bool = False
    protect: bool = False
    applied: str = ""
    owner: str = ""
    stale_mark: str = ""
    follows: bool = False
    status: JSONObject | None = None
    notes: tuple[str, ...] = ()


class Action(StrEnum):
    """What a change does to the live object."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    ADOPT = "adopt"


class Cause(StrEnum):
    """Why a change is needed."""

    COMMIT = "commit"
    DRIFT = "drift"
    ROTATION = "rotation"


@dataclass(frozen=True, slots=True)
class FieldDiff:
    """One difference: a JSON pointer and the values on both sides; a secret appears as its fingerprint, an absent value as None."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Change:
    """One write to be made. ``desired`` is None for a delete; ``live`` and ``handle`` are what the plan was made from."""

    action: Action
    id: ResourceId
    target: str
    desired: Resource | None = None
    diffs: tuple[FieldDiff, ...] = ()
    live: JSONObject | None = None
    handle: JSONObject = field(default_factory=dict)
    cause: Cause = Cause.COMMIT
    evidence: Evidence | None = None
    risk: str = ""


class Status(StrEnum):
    """How one resource came out of a pass."""

    UNCHANGED = "unchanged"
    APPLIED = "applied"
    FAILED = "failed"
    BLOCKED = "blocked"
    REFUSED = "refused"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one change. ``duration`` in seconds. ``transient`` asks the engine for another try after ``retry_after`` seconds."""

    id: ResourceId
    status: Status
    message: str = ""
    duration: float = 0.0
    transient: bool = False
    retry_after: float | None = None


SpanFactory: TypeAlias = Callable[..., AbstractContextManager[Any]]


def no_span(name: str, **attributes: str | int | float | bool) -> AbstractContextManager[Any]:
    """Stand in for tracing where none is configured."""
    return nullcontext()


def _no_reveal(ref: SecretRef) -> SecretValue:
    raise Permanent(f"no secret store is configured, so {ref.template!r} cannot be read; add a target whose driver keeps secrets")


@dataclass(frozen=True, slots=True)
class Scope:
    """On whose behalf a driver works in this pass.

    ``owner`` is the mark that everything of this stack carries: ``<instance>/<stack>``, at most 60 ASCII characters.
    ``fingerprint`` reads no value; ``reveal`` reads one, may raise DriverError, and may be called only inside ``apply``; the one
    exception is a driver whose observing is itself a use of the secret (a probe that logs in), see docs/decisions/0006.
    ``since`` is the time of the newest write of this pass (``time.monotonic``, seconds): what a driver learned earlier proves nothing.
    ``wanted`` is the whole stack, for a driver whose objects depend on one another's content; ``observe`` may be asked about a part of it.
    ``applied`` names what is remembered as having been as git wants it: one of them that is missing was taken away by somebody, of whom
    the system may know. ``status_of`` names the resources whose ``Observation.status`` some expression needs. ``span`` opens a span round
    an outgoing call: ``with scope.span("POST /batch", records=12): ...``; attributes must not carry secrets.
    """

    owner: str
    revision: str = ""
    fingerprint: Callable[[SecretRef], str] = lambda ref: "unresolved"
    reveal: Callable[[SecretRef], SecretValue] = _no_reveal
    wanted: Mapping[ResourceId, Resource] = field(default_factory=dict)
    applied: frozenset[ResourceId] = frozenset()
    status_of: frozenset[ResourceId] = frozenset()
    since: float = 0.0
    count: Callable[[str, int], None] = lambda place, number: None
    span: SpanFactory = no_span


class Driver(Protocol):
    """One connection to one target. Built from its plugin's config; called by one pass at a time.

    ``observe`` only reads. It returns a list (never a generator) with one Observation for each wanted resource that exists, for
    each that could not be seen, and for everything that carries ``scope.owner``; it raises Transient or Permanent when nothing of
    the target could be seen. ``apply`` gets the ready changes of one wave at once, returns one Outcome for each, and is idempotent:
    the same change applied twice leaves what it left once. Neither sleeps nor retries: that is the engine's work, in one place.
    Every outgoing call has a deadline.
    """

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """Say what is there."""
        ...

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        """Make the changes."""
        ...

    def close(self) -> None:
        """Let go of connections. Called once."""
        ...


class Watcher(Protocol):
    """Optional second face of a driver: hints that something may have changed. Losing one is harmless."""

    def watch(self, scope: Scope, stop: "Event") -> Iterator[ResourceId | None]:
        """Yield an id to look at again, or None for "look at everything", until ``stop`` is set."""
        ...


@dataclass(frozen=True, slots=True)
class Quieted:
    """What a system raises no alarm about at our wish: the resources, and until when (aware datetime) where it ends by itself."""

    ids: tuple[ResourceId, ...]
    until: datetime | None = None


class Quieter(Protocol):
    """Optional face of a driver whose system raises alarms. What it makes carries ``scope.owner`` and is found by that alone.

    It must end by itself, so that nothing is ever forgotten. Each raises DriverError.
    """

    def quiet(self, ids: Sequence[ResourceId], scope: Scope, reason: str, seconds: float) -> None:
        """Raise no alarm about ``ids``, for at most ``seconds`` from the first such wish until ``unquiet``; effective when it returns."""
        ...

    def quieted(self, scope: Scope) -> Quieted | None:
        """Say what it is quiet about, whichever process wished it; None when nothing is there."""
        ...

    def unquiet(self, scope: Scope) -> None:
        """End it."""
        ...


@dataclass(frozen=True, slots=True)
class SecretNote:
    """What was learnt of the values of one path when they were last read. It holds none of them, and it is kept beside them.

    ``version`` is the one that was read. ``tags`` maps a key to a keyed digest of its value. ``facts`` maps a key to what may be told of
    its value; the fact ``fault`` says which rule of its declaration the value breaks. ``seal`` is the core's own digest over all of it.
    """

    version: str
    tags: Mapping[str, str]
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    seal: str = ""


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """What a store tells of a path without reading it: the newest version, the names of its keys where it knows them, and the note."""

    text: str
    keys: frozenset[str] | None = None
    note: SecretNote | None = None


@dataclass(frozen=True, slots=True)
class SecretReading:
    """The values of one version of a path, and the facts that the declaration of each key lets be told (see ``SecretNote``)."""

    values: Mapping[str, SecretValue]
    version: str = ""
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class SecretStore(Protocol):
    """Optional face of a driver whose system keeps secrets. Expressions name a secret as ``(path, key)``."""

    def versions(self, paths: Sequence[str], scope: Scope) -> Mapping[str, SecretVersion]:
        """Tell of each path that has a live version what can be told without reading it. Raises DriverError when none can be seen."""
        ...

    def read(self, path: str, scope: Scope) -> SecretReading:
        """Give all keys of one path at its present version. Raises Permanent when it does not exist."""
        ...

    def note(self, path: str, note: SecretNote, scope: Scope) -> None:
        """Keep ``note`` beside a path, in the place of an older one, without a new version. Raises DriverError where it may not be."""
        ...

    def provider(self, path: str, wanted: Sequence[Resource]) -> ResourceId | None:
        """Name the wanted resource that declares ``path``, so that its consumers come after it."""
        ...


@dataclass(frozen=True, slots=True)
class Plugin:
    """What an entry point of the group ``reconciler.drivers`` names. Importing it must not import the vendor library.

    ``driver`` and ``emulator`` are import strings ``module:attribute``. The driver is called with an instance of ``config``, whose fields
    that are a ``Path`` are files which must be readable; a method ``files`` of it may name others, field to path. ``kinds``
    maps kinds to specs; the kind ``*`` takes every kind of every group that no other plugin claims. ``annotations`` are those below
    ``reconciler/`` that the driver itself reads. ``keeps_secrets`` says that the driver is a SecretStore, too. ``importer`` is an import
    string, too, where the plugin can write down what already runs: of a callable that takes the driver and what the user said (option name
    to value, and ``owner``, the mark to come) and gives desired state, file name to YAML. It raises DriverError for what it cannot do.
    ``transactional`` says that ``apply`` makes all it is given in one transaction and brings it into order itself: changes that depend on
    one another within the target are then given together, deletes among them.
    ``acts`` says that to observe is itself to act on addresses that the spec names, or with a secret, as a probe does: for a plan of what
    nobody has merged yet it is not asked.
    """

    name: str
    api_version: str
    kinds: Mapping[str, type[Spec]]
    config: type[BaseModel]
    driver: str
    emulator: str = ""
    annotations: tuple[str, ...] = ()
    keeps_secrets: bool = False
    importer: str = ""
    acts: bool = False
    transactional: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """The text that says whose a live object is, for systems that offer a free-text field.

    Written form: ``reconciler:<owner>:<Kind>/<name>`` with ``:keep`` behind it when the object must outlive its removal from git, or
    ``:protect`` when a person must agree to that removal.
    """

    owner: str
    kind: str
    name: str
    keep: bool = False
    protect: bool = False

    def __str__(self) -> str:
        """Give the written form."""
        return f"reconciler:{self.owner}:{self.kind}/{self.called}"

    @property
    def called(self) -> str:
        """Give the name with what is said of its end."""
        return self.name + (":keep" if self.keep else ":protect" if self.protect else "")

    @classmethod
    def of(cls, resource: Resource, scope: Scope, *, keep: bool = False) -> "Mark":
        """Make the mark that ``resource`` must carry; ``keep`` where it outlives its removal whatever its policy says."""
        keep = keep or not resource.policy.prune
        return cls(scope.owner, resource.id.kind, resource.id.name, keep=keep, protect=resource.policy.protect and not keep)

    @classmethod
    def parse(cls, text: str) -> "Mark | None":
        """Read a mark; None when ``text`` is not one."""
        parts = text.split(":")
        end = parts[3] if len(parts) == 4 else ""
        if len(parts) not in (3, 4) or parts[0] != "reconciler" or "/" not in parts[2] or (parts[3:] and end not in ("keep", "protect")):
            return None
        kind, _, name = parts[2].partition("/")
        return cls(parts[1], kind, name, keep=end == "keep", protect=end == "protect")

    def ownership(self, owner: str) -> Ownership:
        """Say whose this mark is, seen by ``owner``."""
        return Ownership.OURS if self.owner == owner else Ownership.FOREIGN
