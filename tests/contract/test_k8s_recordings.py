"""The emulated cluster against recordings of a real API server, which are read where they lie."""

import importlib.util
import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from reconciler_k8s.emulator import KubernetesEmulator

ROOT = Path(__file__).parents[2]
SHARED = (ROOT / os.environ.get("RECONCILER_SHARED", "../shared")).resolve() / "transcripts"
FAITHFUL = (  # those of the recordings that are answered whole; 22 is too, but its watches take a quarter of a minute
    "02_namespace",
    "03_configmap_ssa",
    "04_conflict_force",
    "05_coownership",
    "06_dryrun",
    "07_secret",
    "08_service_mail",
    "09_service_errors",
    "14_ingress_rbac_sa",
    "17_schema_errors",
    "18_not_found",
    "25_applyset_prune",
)


@pytest.fixture(scope="module")
def replayer() -> ModuleType:
    path = SHARED / "replay_k8s.py"
    if not path.exists():
        pytest.skip(f"no recordings at {SHARED}")
    found = importlib.util.spec_from_file_location("replay_k8s", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def emulator() -> Iterator[KubernetesEmulator]:
    emulator = KubernetesEmulator({"controllers": False})
    emulator.start()
    yield emulator
    emulator.stop()


@pytest.mark.parametrize("name", FAITHFUL)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_every_recorded_answer_is_given(
    replayer: ModuleType, emulator: KubernetesEmulator, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = emulator.settings()
    options = Namespace(**settings, ca=None, insecure=False, have=[], loose_messages=False, show=5, stop=False)
    failures = replayer.replay(str(SHARED / "k8s" / f"{name}.jsonl"), options)
    assert failures == 0, capsys.readouterr().out
