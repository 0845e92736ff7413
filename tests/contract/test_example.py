"""The example driver of docs/drivers.md keeps every promise."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import pytest

from docs.example_driver.driver import BoardDriver
from docs.example_driver.emulator import BoardEmulator
from docs.example_driver.spec import BoardConfig, Note
from reconciler.resource import JSONObject, Resource, ResourceId, SecretRef
from reconciler.testing import DriverContract, Sample


def note(name: str, **spec: object) -> Resource:
    return Resource(ResourceId("board", "Note", name), Note.model_validate(spec))


class BoardWorld:
    """The emulated board, looked at from behind the driver."""

    owner = "test/contract"
    faults = frozenset({"rate-limit", "server-error", "cut-before", "cut-after"})

    def __init__(self) -> None:
        self.board = BoardEmulator()

    def open(self) -> BoardDriver:
        return BoardDriver(BoardConfig.model_validate(self.board.settings()))

    def samples(self) -> Sequence[Sample]:
        secret = SecretRef('${vault("board", "pin")}', (("board", "pin"),))
        return [
            Sample(note("plain", text="hello"), note("plain", text="goodbye")),
            Sample(note("sealed", text=secret), note("sealed", text=secret, colours=["Red", "blue"])),
        ]

    def peek(self) -> Mapping[str, tuple[str, JSONObject]]:
        return {one["title"]: (str(number), dict(one)) for number, one in self.board.notes.items()}

    def locate(self, resource: Resource) -> str:
        return resource.id.name

    def plant(self, resource: Resource) -> None:
        content = resource.spec.canonical(lambda ref: "planted")
        self.board.notes[1000 + len(self.board.notes)] = {"title": resource.id.name, "label": "", **content}

    def meddle(self, resource: Resource) -> None:
        self._live(resource)["colours"] = ["black"]

    def remove(self, resource: Resource) -> None:
        self.board.notes = {number: one for number, one in self.board.notes.items() if one["title"] != resource.id.name}

    def writes(self) -> int:
        return self.board.faults.writes

    def fail(self, fault: str, *, times: int = 1_000_000) -> AbstractContextManager[None]:
        return self.board.faults.during(fault, times=times, writes_only=fault.startswith("cut"))

    def secret_values(self) -> Sequence[str]:
        return ["s3cr3t-pin"]

    def _live(self, resource: Resource) -> JSONObject:
        return next(one for one in self.board.notes.values() if one["title"] == resource.id.name)


class TestBoard(DriverContract):
    """Every promise, kept."""

    secrets: Mapping[str, str] = {"board#pin": "s3cr3t-pin"}

    @pytest.fixture
    def world(self) -> Iterator[BoardWorld]:
        world = BoardWorld()
        world.board.start()
        yield world
        world.board.stop()
