"""What a source says and does at real git servers, over TLS and over SSH, when all is well and when it is not."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import SourceError
from reconciler.git import Credentials
from reconciler.resource import SecretValue
from reconciler.source import GitSource
from tests.e2e.git_servers import SSHD, TOKEN, HttpBackend, Sshd, keygen
from tests.unit.test_source import Upstream

WITH_SSHD = pytest.mark.skipif(not SSHD, reason="OpenSSH's server is not installed")
try:
    RUN_SSHD = os.access("/run/sshd", os.W_OK) or os.access("/run", os.W_OK)
except OSError:
    RUN_SSHD = False


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    made = Upstream(tmp_path / "repos" / "infra")
    made.git("config", "http.receivepack", "true")
    return made


@pytest.fixture
def backend(upstream: Upstream, tmp_path: Path) -> Iterator[HttpBackend]:
    made = HttpBackend(upstream.path.parent, tmp_path)
    yield made
    made.close()


def over_https(backend: HttpBackend, tmp_path: Path, token: str = TOKEN, **more: Any) -> GitSource:
    credentials = Credentials(SecretValue(token) if token else None, ca_file=backend.ca_file)
    return GitSource(f"{backend.url}/infra/.git", directory=tmp_path / "cache", credentials=credentials, **{"timeout": 20, **more})


class TestHttps:
    def test_a_token_reads_follows_and_pushes_a_branch_of_ours(self, upstream: Upstream, backend: HttpBackend, tmp_path: Path) -> None:
        source = over_https(backend, tmp_path)
        first = source.fetch()
        assert source.head() == first == upstream.git("rev-parse", "HEAD")
        second = upstream.commit("second", {"desired/mail/b.yaml": b"b"})
        assert set(source.read(source.fetch()).tree) == {"desired/mail/dns.yaml", "desired/mail/b.yaml"}
        made = source.propose("adopt/mail", second, {"desired/mail/b.yaml": b"c"}, "Adopt it\n")
        assert upstream.git("rev-parse", "adopt/mail") == made == source.branch("adopt/mail")
        assert source.branch("mail") == "", "a name that ends alike is another one"
        assert upstream.git("show", "adopt/mail:desired/mail/b.yaml") == "c"
        assert upstream.git("rev-parse", "main") == second
        with pytest.raises(SourceError, match="a branch of this name is there already; choose another one"):
            source.propose("adopt/mail", second, {"desired/mail/b.yaml": b"d"}, "Again\n")
        assert upstream.git("rev-parse", "adopt/mail") == made

    @pytest.mark.parametrize("token", ["wrong-canary", ""])
    def test_a_wrong_or_missing_token_is_said_and_never_shown(self, backend: HttpBackend, tmp_path: Path, token: str) -> None:
        with pytest.raises(SourceError, match=r"the server refused the login|the server wants a login") as caught:
            over_https(backend, tmp_path, token).head()
        assert "canary" not in str(caught.value)

    def test_an_authority_that_is_not_known_is_said(self, backend: HttpBackend, tmp_path: Path) -> None:
        source = GitSource(f"{backend.url}/infra/.git", directory=tmp_path, credentials=Credentials(SecretValue(TOKEN)))
        with pytest.raises(SourceError, match="certificate is not trusted; name its authority as the CA file"):
            source.head()

    def test_a_server_that_is_down_is_said_and_the_next_look_succeeds(
        self, upstream: Upstream, backend: HttpBackend, tmp_path: Path
    ) -> None:
        source = over_https(backend, tmp_path)
        first = source.fetch()

        def down(handler: Any) -> bool:
            handler.send_error(503)
            return True

        backend.fault = down
        with pytest.raises(SourceError, match="returned error: 503"):
            source.fetch()
        assert source.read(first).tree, "what is known stays readable"
        backend.fault = lambda handler: False
        assert source.fetch() == first

    def test_a_server_that_is_gone_is_said(self, upstream: Upstream, tmp_path: Path) -> None:
        backend = HttpBackend(upstream.path.parent, tmp_path)
        source = over_https(backend, tmp_path)
        backend.close()
        with pytest.raises(SourceError, match="the server does not answer there"):
            source.head()

    def test_a_server_that_drips_is_given_up_after_the_timeout(self, backend: HttpBackend, tmp_path: Path) -> None:
        def drip(handler: Any) -> bool:
            handler.send_response(200)
            handler.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
            handler.send_header("Content-Length", "100000")
            handler.end_headers()
            try:
                for _ in range(100):
                    handler.wfile.write(b"0")
                    handler.wfile.flush()
                    time.sleep(0.1)
            except OSError:
                pass
            return True

        backend.fault = drip
        began = time.monotonic()
        with pytest.raises(SourceError, match=r"no answer within 1\.5 s"):
            over_https(backend, tmp_path, timeout=1.5).head()
        assert time.monotonic() - began < 5

    def test_a_pack_that_is_cut_off_changes_nothing(self, upstream: Upstream, backend: HttpBackend, tmp_path: Path) -> None:
        source = over_https(backend, tmp_path)
        first = source.fetch()
        upstream.commit("large", {"desired/mail/large.bin": os.urandom(200_000)})

        def cut(handler: Any) -> bool:
            if handler.command == "GET":
                return False
            handler.body()
            handler.send_response(200)
            handler.send_header("Content-Type", "application/x-git-upload-pack-result")
            handler.send_header("Content-Length", "400")
            handler.end_headers()
            handler.wfile.write(b"000dpackfile\n0023\x01PACK\x00\x00\x00\x02\x00\x00\x00\x03garbage..........")
            handler.close_connection = True
            return True

        backend.fault = cut
        with pytest.raises(SourceError, match="git fetch failed"):
            source.fetch()
        assert source.read(first).tree
        backend.fault = lambda handler: False
        assert source.fetch() == upstream.git("rev-parse", "HEAD")


@WITH_SSHD
@pytest.mark.skipif(not RUN_SSHD, reason="sshd wants /run/sshd, which only root can make")
class TestSsh:
    @pytest.fixture
    def sshd(self, tmp_path: Path) -> Iterator[Sshd]:
        folder = tmp_path / "ssh"
        folder.mkdir(mode=0o700)
        made = Sshd(folder)
        yield made
        made.stop()

    def source(self, sshd: Sshd, upstream: Upstream, tmp_path: Path, **more: Any) -> GitSource:
        credentials = Credentials(**{"ssh_key": sshd.key, "known_hosts": sshd.known_hosts(), **more})
        return GitSource(sshd.url(upstream.path), directory=tmp_path / "cache", credentials=credentials, timeout=20)

    def test_a_key_reads_from_a_known_host(self, sshd: Sshd, upstream: Upstream, tmp_path: Path) -> None:
        source = self.source(sshd, upstream, tmp_path)
        assert source.read(source.fetch()).subject == "first"

    def test_a_key_that_is_not_authorised_is_said(self, sshd: Sshd, upstream: Upstream, tmp_path: Path) -> None:
        source = self.source(sshd, upstream, tmp_path, ssh_key=keygen(tmp_path / "other"))
        with pytest.raises(SourceError, match="the server refused the key; check the ssh key and its rights"):
            source.head()

    def test_a_host_that_is_not_known_is_refused(self, sshd: Sshd, upstream: Upstream, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.touch()
        with pytest.raises(SourceError, match="the server's key is not known; add it to the known hosts"):
            self.source(sshd, upstream, tmp_path, known_hosts=empty).head()

    def test_a_host_with_another_key_than_before_is_refused_louder(self, sshd: Sshd, upstream: Upstream, tmp_path: Path) -> None:
        source = self.source(sshd, upstream, tmp_path)
        assert source.head()
        sshd.new_host_key()
        with pytest.raises(SourceError, match="shows another key than before; find out why"):
            source.head()

    def test_a_server_that_is_gone_is_said(self, sshd: Sshd, upstream: Upstream, tmp_path: Path) -> None:
        source = self.source(sshd, upstream, tmp_path)
        sshd.stop()
        with pytest.raises(SourceError, match="the server does not answer there"):
            source.head()
