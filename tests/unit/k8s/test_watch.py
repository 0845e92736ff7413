"""What ends a watch, and how it goes on."""

from threading import Event

import pytest

from reconciler.driver import Scope
from reconciler.errors import Transient
from reconciler_k8s.client import Cluster, Served
from reconciler_k8s.config import KubernetesConfig
from reconciler_k8s.watch import Expired, Watch

SECRETS = Served("", "v1", "Secret", "secrets", True)


def heard(code: int) -> None:
    watch = Watch(Cluster(KubernetesConfig(url="http://127.0.0.1:1")), Scope("test/watch"), Event())
    watch._event(SECRETS, {"type": "ERROR", "object": {"code": code, "reason": "Because"}})


def test_only_a_forgotten_version_is_listed_anew_at_once() -> None:
    with pytest.raises(Expired):
        heard(410)
    with pytest.raises(Transient, match="the server ends it with 500 Because"):
        heard(500)
