from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli import bench


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[bench.Shell]:
    yield from bench.shell(tmp_path, monkeypatch, capsys)
