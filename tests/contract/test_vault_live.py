"""The same promises on a real Vault or OpenBao, when the environment names one that may be spoilt."""

import os
from collections.abc import Iterator

import pytest
from vault_world import LiveVault

from reconciler.testing import DriverContract

URL, TOKEN = os.environ.get("RECONCILER_LIVE_VAULT_URL", ""), os.environ.get("RECONCILER_LIVE_VAULT_TOKEN", "")
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not (URL and TOKEN), reason="RECONCILER_LIVE_VAULT_URL and _TOKEN (root, on a server to be spoilt) are not set"),
]


@pytest.fixture
def world() -> Iterator[LiveVault]:
    world = LiveVault(URL, TOKEN)
    yield world
    world.close()


class TestContract(DriverContract):
    cannot_delete = frozenset({"Mount", "AuthMount"})
