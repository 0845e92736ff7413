"""Every way into a cluster: kubeconfig with tokens, client certificates and exec plugins, the pod's own account, and what goes wrong."""

import base64
import json
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from kubernetes.config import incluster_config
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from reconciler.errors import DriverError, Permanent, Transient
from reconciler.resource import JSONObject
from reconciler_k8s.client import Call, Cluster
from reconciler_k8s.config import KubernetesConfig
from reconciler_k8s.emulator import KubernetesEmulator

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of one test run, with what it has signed, as files."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    def make(self) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        made = self._builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.ca.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        for who, usage in (("server", ExtendedKeyUsageOID.SERVER_AUTH), ("client", ExtendedKeyUsageOID.CLIENT_AUTH)):
            own = ec.generate_private_key(ec.SECP256R1())
            leaf = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)]), name, own)
            leaf = leaf.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            leaf = leaf.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            (self.folder / f"{who}.crt").write_bytes(leaf.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
            plain = serialization.NoEncryption()
            text = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
            (self.folder / f"{who}.key").write_bytes(text)
        return self

    def _builder(self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        return builder.serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + DAY)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority")).make()


@contextmanager
def over_tls(emulator: KubernetesEmulator, authority: Authority, *, certificates: bool = False) -> Iterator[str]:
    """Serve an emulated cluster over TLS; with ``certificates``, to whoever shows one of ours, without any token."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[Any] = scope["headers"]
        scope = {**scope, "headers": [(name, value.replace(b"bearer ", b"Bearer ")) for name, value in headers]}  # case means nothing
        if certificates:
            assert not any(name == b"authorization" for name, _ in headers)
            scope = {**scope, "headers": [*headers, (b"authorization", f"Bearer {emulator.api.token}".encode())]}
        await emulator.api(scope, receive, send)

    config = uvicorn.Config(
        app,
        port=0,
        log_level="critical",
        lifespan="off",
        ssl_certfile=authority.folder / "server.crt",
        ssl_keyfile=authority.folder / "server.key",
        ssl_ca_certs=str(authority.ca),
        ssl_cert_reqs=ssl.CERT_REQUIRED if certificates else ssl.CERT_NONE,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    yield f"https://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def emulator() -> KubernetesEmulator:
    return KubernetesEmulator({"controllers": False})


def kubeconfig(path: Path, *contexts: tuple[str, str, JSONObject], ca: Path | None = None, **cluster: Any) -> Path:
    """Write a kubeconfig: each context is (name, server, user)."""
    trust = {"certificate-authority-data": base64.b64encode(ca.read_bytes()).decode()} if ca is not None else {}
    whole = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": contexts[0][0],
        "clusters": [{"name": name, "cluster": {"server": server, **trust, **cluster}} for name, server, _ in contexts],
        "users": [{"name": name, "user": user} for name, _, user in contexts],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name, _, _ in contexts],
    }
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    return path


def namespaces(**settings: Any) -> list[str]:
    """Go in and say what is there."""
    cluster = Cluster(KubernetesConfig(timeout=5, **settings))
    try:
        _, answer = cluster.send(Call("GET", "/api/v1/namespaces", "the cluster"))
        return [one["metadata"]["name"] for one in answer["items"]]
    finally:
        cluster.close()


def refused(**settings: Any) -> str:
    with pytest.raises(Permanent) as caught:
        namespaces(**settings)
    return str(caught.value)


class TestTLS:
    def test_a_server_is_trusted_by_its_authority_only(self, emulator: KubernetesEmulator, authority: Authority) -> None:
        with over_tls(emulator, authority) as url:
            way = {"url": url, "token": emulator.api.token}
            assert "default" in namespaces(**way, ca_file=authority.ca)
            assert "default" in namespaces(**way, insecure=True)
            assert "certificate is not accepted" in refused(**way)

    def test_an_authority_that_is_not_there_is_named(self, authority: Authority) -> None:
        said = refused(url="https://127.0.0.1:1", token="t", ca_file=authority.folder / "gone.crt")
        assert said.endswith("gone.crt does not exist; it should hold a certificate or key of the target")


class TestKubeconfig:
    def test_a_token_and_an_authority_inside(self, emulator: KubernetesEmulator, authority: Authority, tmp_path: Path) -> None:
        with over_tls(emulator, authority) as url:
            file = kubeconfig(tmp_path / "config", ("a", url, {"token": emulator.api.token}), ca=authority.ca)
            assert "default" in namespaces(kubeconfig=file)

    def test_client_certificates(self, emulator: KubernetesEmulator, authority: Authority, tmp_path: Path) -> None:
        files = {"client-certificate": "client.crt", "client-key": "client.key"}
        user = {f"{name}-data": base64.b64encode((authority.folder / file).read_bytes()).decode() for name, file in files.items()}
        with over_tls(emulator, authority, certificates=True) as url:
            assert "default" in namespaces(kubeconfig=kubeconfig(tmp_path / "config", ("a", url, user), ca=authority.ca))
            with pytest.raises(DriverError):
                namespaces(kubeconfig=kubeconfig(tmp_path / "other", ("a", url, {"token": "t"}), ca=authority.ca))

    def test_an_exec_plugin(self, emulator: KubernetesEmulator, authority: Authority, tmp_path: Path) -> None:
        answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": emulator.api.token}}
        plugin = tmp_path / "plugin.py"
        plugin.write_text(f"print({json.dumps(answer)!r})", encoding="utf-8")
        run = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(plugin)],
            "interactiveMode": "Never",
        }
        with over_tls(emulator, authority) as url:
            file = kubeconfig(tmp_path / "config", ("a", url, {"exec": run}), ca=authority.ca)
            assert "default" in namespaces(kubeconfig=file)
            plugin.write_text("raise SystemExit(1)", encoding="utf-8")
            assert "its exec plugin failed" in refused(kubeconfig=file)

    def test_several_clusters_by_context(self, authority: Authority, tmp_path: Path) -> None:
        one, two = KubernetesEmulator({"controllers": False}), KubernetesEmulator({"controllers": False})
        two.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "second"}})
        with over_tls(one, authority) as first, over_tls(two, authority) as second:
            users = [("one", first, {"token": one.api.token}), ("two", second, {"token": two.api.token})]
            file = kubeconfig(tmp_path / "config", *users, ca=authority.ca)
            assert "second" not in namespaces(kubeconfig=file)
            assert "second" in namespaces(kubeconfig=file, context="two")
            assert "cannot be loaded (ConfigException)" in refused(kubeconfig=file, context="three")

    @pytest.mark.parametrize("text", ["", "clusters: [", "current-context: a", "[1, 2]", "just text"])
    def test_what_is_no_kubeconfig(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "config").write_text(text, encoding="utf-8")
        assert "credentials cannot be loaded" in refused(kubeconfig=tmp_path / "config")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        assert "credentials cannot be loaded" in refused(kubeconfig=tmp_path / "gone")

    def test_a_new_token_is_read_after_the_old_one_was_refused(
        self, emulator: KubernetesEmulator, authority: Authority, tmp_path: Path
    ) -> None:
        with over_tls(emulator, authority) as url:
            file = kubeconfig(tmp_path / "config", ("a", url, {"token": "old"}), ca=authority.ca)
            cluster = Cluster(KubernetesConfig(kubeconfig=file, timeout=5))
            with pytest.raises(Permanent, match="does not know these credentials"):
                cluster.discover()
            kubeconfig(file, ("a", url, {"token": emulator.api.token}), ca=authority.ca)
            assert cluster.discover()
            cluster.close()


class TestInsideTheCluster:
    @pytest.fixture
    def account(self, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A mounted service account; gives the file of its token."""
        (tmp_path / "token").write_text("none yet", encoding="utf-8")
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority.ca))
        return tmp_path / "token"

    def test_the_pods_token_is_read_again_when_it_is_replaced(
        self, emulator: KubernetesEmulator, authority: Authority, account: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        account.write_text(emulator.api.token, encoding="utf-8")
        with over_tls(emulator, authority) as url:
            host, port = url.removeprefix("https://").split(":")
            monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
            monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
            cluster = Cluster(KubernetesConfig(in_cluster=True, timeout=5))
            assert cluster.discover()
            emulator.api.access.add("replaced", "system:serviceaccount:reconciler:reconciler", ("system:masters",))
            account.write_text("replaced", encoding="utf-8")
            for token in [one for one in emulator.api.access.tokens if one != "replaced"]:
                del emulator.api.access.tokens[token]
            with pytest.raises(Permanent, match="does not know these credentials"):
                cluster.discover()
            assert cluster.discover()
            cluster.close()

    def test_outside_of_a_cluster_it_is_said(self, account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        assert "check kubeconfig, context or in_cluster" in refused(in_cluster=True)


class TestSettings:
    @pytest.mark.parametrize("ways", [{}, {"url": "https://a", "in_cluster": True}, {"kubeconfig": "a", "url": "https://a"}])
    def test_there_is_exactly_one_way_in(self, ways: JSONObject) -> None:
        with pytest.raises(ValidationError, match="give exactly one of kubeconfig, in_cluster and url"):
            KubernetesConfig(**ways)

    def test_a_token_is_never_shown(self) -> None:
        assert "canary" not in repr(KubernetesConfig(url="https://a", token="canary"))

    def test_over_tls_somebody_must_be_asking(self) -> None:
        assert "gives no credentials" in refused(url="https://127.0.0.1:1")


class TestTrouble:
    def test_a_port_that_nobody_serves_is_temporary(self) -> None:
        with pytest.raises(Transient, match="the cluster: nobody answers at this address"):
            namespaces(url="http://127.0.0.1:1", token="t")

    def test_a_server_that_freezes_is_given_up_after_the_deadline(self, emulator: KubernetesEmulator) -> None:
        emulator.start()
        cluster = Cluster(KubernetesConfig(**emulator.settings(), timeout=0.3))
        try:
            with emulator.faults.during("latency", seconds=2), pytest.raises(Transient, match="no answer in time"):
                cluster.discover()
            before = len(emulator.faults.requests)
            assert before == 1, "the vendor library must not ask a second time behind our back"
        finally:
            cluster.close()
            emulator.stop()

    def test_more_calls_at_once_than_the_pool_holds_reuse_their_connections(self) -> None:
        cluster = Cluster(KubernetesConfig(url="http://127.0.0.1:1", token="t", workers=3))
        assert cluster.api.configuration.connection_pool_maxsize == 5
        assert cluster.api.configuration.retries is False
        cluster.close()
