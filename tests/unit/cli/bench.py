"""The command line over a system in memory: the real entry, the real settings file, the real database."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from reconciler import registry
from reconciler.cli import main
from tests.unit.core import memory
from tests.unit.core.memory import STACK, Config, MemoryDriver, System

SYSTEMS: dict[str, System] = {}


class Named(BaseModel):
    """Settings of a target that a file can hold: the name of a system instead of the system."""

    model_config = ConfigDict(extra="forbid")

    system: str


class NamedDriver(MemoryDriver):
    """The driver of the system that the settings name."""

    def __init__(self, config: Named) -> None:
        super().__init__(Config(system=SYSTEMS[config.system]))


PLUGIN = replace(memory.PLUGIN, config=Named, driver="tests.unit.cli.bench:NamedDriver")


@dataclass
class Result:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


class Shell:
    """A person in an empty directory with a settings file and a stack."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], system: System) -> None:
        self.folder, self.capsys, self.system = folder, capsys, system

    def write(self, **stacks: str | dict[str, str]) -> None:
        """Write ``desired/<stack>``; a lone text is the file ``all.yaml``."""
        for stack, files in stacks.items():
            named = {"all.yaml": files} if isinstance(files, str) else files
            plain = STACK.replace("name: test", f"name: {stack}")
            for name, text in {"stack.yaml": plain, **named}.items():
                file = self.folder / "desired" / stack / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)

    def run(self, *arguments: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        output = self.capsys.readouterr()
        return Result(int(ended.value.code or 0), output.out, output.err)


def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """Give a shell in ``tmp_path`` in which the memory plugin is the only one installed."""
    system = SYSTEMS["live"] = System()
    monkeypatch.chdir(tmp_path)
    point = EntryPoint("mem", "tests.unit.cli.bench:PLUGIN", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    registry.catalog.cache_clear()
    (tmp_path / "reconciler.yaml").write_text("targets:\n  mem: {system: live}\nengine: {attempts: 1, poll: 0.01}\n")
    yield Shell(tmp_path, capsys, system)
    registry.catalog.cache_clear()
    SYSTEMS.clear()
