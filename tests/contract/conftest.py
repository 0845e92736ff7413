"""What the tests of all drivers share: a server for each module, a fresh world on it for each test, and a driver in that world.

A module names its own as ``EMULATOR`` and ``WORLD``, or has fixtures of these names that do more. And what holds for all drivers together:
whatever they import of the vendors' libraries is in the image, too.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.sandbox.server import Emulator
from reconciler.testing import Bench, World, scope_for

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"
TAKING_OUT = re.compile(r"site-packages \\\n && (?P<commands>.*?)\\\n && python -m compileall", re.DOTALL)
THINNED = ("cloudflare", "kubernetes")


def imported() -> list[Path]:
    """Give the files that this process has imported of the libraries that the image holds in part, below site-packages."""
    files = [Path(module.__file__) for name, module in sys.modules.copy().items() if name.split(".")[0] in THINNED and module.__file__]
    return [Path(*file.parts[file.parts.index("site-packages") + 1 :]) for file in files]


@pytest.fixture(scope="session", autouse=True)
def the_image_holds_all_that_is_imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run the Dockerfile's own commands on a tree with the imported files, once that the drivers have done all that they do."""
    yield
    found = TAKING_OUT.search(DOCKERFILE.read_text(encoding="utf-8"))
    assert found is not None
    commands = found["commands"].replace("\\\n", "")
    tree = tmp_path_factory.mktemp("site-packages")
    files = imported()
    named = [Path(word) for word in re.findall(r"\b(?:cloudflare|kubernetes)/[\w/]+", commands)]
    for file in files:
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).touch()
    for folder in named:
        (tree / folder).mkdir(parents=True, exist_ok=True)
    subprocess.run(["sh", "-ec", commands], cwd=tree, check=True, timeout=30)
    assert [str(file) for file in files if not (tree / file).exists()] == []


@pytest.fixture(scope="module")
def emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    made: Emulator = request.module.EMULATOR()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def world(request: pytest.FixtureRequest, emulator: Any) -> World:
    found: World = request.module.WORLD(emulator)
    return found


@pytest.fixture
def bench(world: World) -> Iterator[Bench]:
    bench = Bench(world, world.open(), scope_for(world))
    yield bench
    bench.driver.close()
