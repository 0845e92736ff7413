import base64
import functools
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import InputError, SettingsError, SourceError
from reconciler.git import Credentials, Git, masked
from reconciler.resource import SecretValue
from reconciler.source import GitSource, Limits, WorkingTree
from reconciler_probe.emulator.certificate import make_certificate


class Upstream:
    """A repository that a team pushes to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("first", {"desired/mail/dns.yaml": b"kind: DNSRecord\n", "README.md": b"hello\n"})

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def git(self, *arguments: str, data: bytes = b"") -> str:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path),
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "ada@example.org" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_DATE": "2026-03-01T10:00:00+02:00" for who in ("AUTHOR", "COMMITTER")},
        }
        done = subprocess.run(["git", *arguments], cwd=self.path, env=env, input=data, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def commit(self, subject: str, files: dict[str, bytes]) -> str:
        for name, content in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")

    def commit_tree(self, listing: bytes) -> str:
        """Commit a tree that no work tree could hold, below ``desired``."""
        inner = self.git("mktree", "-z", "--missing", data=listing)
        outer = self.git("mktree", data=f"040000 tree {inner}\tdesired\n".encode())
        commit = self.git("commit-tree", outer, "-m", "made by hand")
        self.git("update-ref", "refs/heads/main", commit)
        return commit

    def blob(self, content: bytes = b"x") -> str:
        return self.git("hash-object", "-w", "--stdin", data=content)


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "upstream")


@pytest.fixture
def source(upstream: Upstream, tmp_path: Path) -> GitSource:
    return GitSource(upstream.url, "main", tmp_path / "cache", allow_file=True, timeout=20)


def problems(source: GitSource, commit: str) -> dict[str, str]:
    with pytest.raises(InputError) as caught:
        source.read(commit)
    return {problem.file: problem.message for problem in caught.value.problems}


class TestReading:
    def test_a_commit_gives_the_files_below_the_folder_and_who_made_it(self, source: GitSource) -> None:
        commit = source.fetch()
        revision = source.read(commit)
        assert revision.tree == {"desired/mail/dns.yaml": b"kind: DNSRecord\n"}
        assert (revision.commit, revision.author, revision.subject) == (commit, "Ada <ada@example.org>", "first")
        assert revision.time.isoformat() == "2026-03-01T10:00:00+02:00"
        assert revision.signed == ""

    def test_several_folders_and_the_root_can_be_asked_for(self, upstream: Upstream, source: GitSource) -> None:
        upstream.commit("more", {"other/a.yaml": b"a", "third/b.yaml": b"b"})
        commit = source.fetch()
        assert set(source.read(commit, ["desired", "other/"]).tree) == {"desired/mail/dns.yaml", "other/a.yaml"}
        assert set(source.read(commit, "").tree) == {"README.md", "desired/mail/dns.yaml", "other/a.yaml", "third/b.yaml"}

    def test_a_folder_is_not_taken_for_another_with_the_same_beginning(self, upstream: Upstream, source: GitSource) -> None:
        upstream.commit("more", {"desired-old/a.yaml": b"a"})
        assert set(source.read(source.fetch()).tree) == {"desired/mail/dns.yaml"}

    def test_bytes_come_through_as_they_are(self, upstream: Upstream, source: GitSource) -> None:
        files = {
            "desired/a": b"",
            "desired/b": b"\xff\x00\n\n",
            "desired/c": b"no newline",
            "desired/ü ñ.yaml": b"",
            "desired/d": b"0 missing",
        }
        upstream.commit("bytes", files)
        assert source.read(source.fetch()).tree == {**files, "desired/mail/dns.yaml": b"kind: DNSRecord\n"}

    def test_an_older_commit_can_be_read(self, upstream: Upstream, source: GitSource) -> None:
        first = source.fetch()
        upstream.commit("second", {"desired/mail/dns.yaml": b"kind: Other\n"})
        second = source.fetch()
        assert source.read(first).tree != source.read(second).tree

    def test_an_unknown_commit_or_folder_is_named(self, source: GitSource) -> None:
        commit = source.fetch()
        with pytest.raises(SourceError, match=r"commit 1{40} is not in the mirror; fetch it first"):
            source.read("1" * 40)
        with pytest.raises(SourceError, match="'--all' is not a commit id"):
            source.read("--all")
        with pytest.raises(SourceError, match="there is no folder wanted at"):
            source.read(commit, "wanted")

    @pytest.mark.parametrize("folder", ["../etc", "/etc", ":(glob)**", "desired/../.."])
    def test_a_folder_outside_is_refused(self, source: GitSource, folder: str) -> None:
        with pytest.raises(SettingsError, match="is not a folder of the repository"):
            source.read("1" * 40, folder)

    def test_a_signature_is_named_by_its_kind(self, upstream: Upstream, source: GitSource) -> None:
        raw = upstream.git("cat-file", "commit", "HEAD")
        headers, message = raw.split("\n\n", 1)
        signed = f"{headers}\ngpgsig -----BEGIN SSH SIGNATURE-----\n AAAA\n -----END SSH SIGNATURE-----\n\n{message}\n"
        upstream.git("update-ref", "HEAD", upstream.git("hash-object", "-t", "commit", "-w", "--stdin", data=signed.encode()))
        assert source.read(source.fetch()).signed == "ssh"


class TestRefusals:
    def test_links_and_submodules_are_named_together(self, upstream: Upstream, source: GitSource) -> None:
        blob = upstream.blob()
        commit = upstream.commit_tree(
            f"120000 blob {blob}\tlink.yaml\0".encode()
            + b"160000 commit "
            + b"1" * 40
            + b"\tvendored\0"
            + f"100644 blob {blob}\tz\0".encode()
        )
        assert source.fetch() == commit
        assert problems(source, commit) == {
            "desired/link.yaml": "a symlink in the desired state is not followed; put the file itself in its place",
            "desired/vendored": "a submodule in the desired state is not read; put its files in this repository",
        }

    def test_a_desired_folder_that_is_itself_a_link_is_refused(self, upstream: Upstream, source: GitSource) -> None:
        upstream.git("rm", "-r", "--quiet", "desired")
        (upstream.path / "desired").symlink_to("/etc")
        assert list(problems(source, source_after(upstream, source))) == ["desired"]

    def test_names_that_are_not_text_are_refused(self, upstream: Upstream, source: GitSource) -> None:
        blob = upstream.blob().encode()
        commit = upstream.commit_tree(b"100644 blob " + blob + b"\t\xff.yaml\0" + b"100644 blob " + blob + b"\ta\nb.yaml\0")
        source.fetch()
        assert problems(source, commit) == {
            "desired/\\xff.yaml": "the name of the file is not UTF-8; rename it",
            "desired/a\nb.yaml": "the path leads out of its folder or holds characters that cannot be shown; rename it",
        }

    def test_a_path_that_escapes_is_refused(self, upstream: Upstream, source: GitSource) -> None:
        inner = upstream.git("mktree", data=f"100644 blob {upstream.blob()}\tpasswd\n".encode())
        raw = b"40000 ..\0" + bytes.fromhex(inner)
        tree = upstream.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", data=raw)
        outer = upstream.git("hash-object", "-t", "tree", "-w", "--stdin", data=b"40000 desired\0" + bytes.fromhex(tree))
        commit = upstream.git("commit-tree", outer, "-m", "escape")
        upstream.git("update-ref", "refs/heads/main", commit)
        try:
            source.fetch()
        except SourceError:
            return  # a newer git already refuses to take such an object
        assert list(problems(source, commit)) == ["desired/../passwd"]

    def test_too_much_is_refused_before_it_is_read(self, upstream: Upstream, tmp_path: Path) -> None:
        upstream.commit("big", {"desired/big": b"x" * 101, "desired/more": b"x"})
        source = GitSource(
            upstream.url, directory=tmp_path / "cache", allow_file=True, limits=Limits(file_bytes=100, files=2, total_bytes=110)
        )
        commit = source.fetch()
        with pytest.raises(InputError) as caught:
            source.read(commit)
        assert [str(problem) for problem in caught.value.problems] == [
            "desired: 118 bytes are more than the 110 that are read",
            "desired: 3 files are more than the 2 that are read",
            "desired/big: 101 bytes are more than the 100 that are read of one file; split it",
        ]


def source_after(upstream: Upstream, source: GitSource) -> str:
    upstream.commit("change", {})
    return source.fetch()


class TestFetching:
    def test_the_head_is_known_before_and_after_a_fetch(self, upstream: Upstream, source: GitSource) -> None:
        assert source.head() == upstream.git("rev-parse", "HEAD") == source.fetch()
        second = upstream.commit("second", {})
        assert source.head() == second
        assert source.fetch() == second
        assert not source.rewritten

    def test_only_the_asked_branch_is_fetched(self, upstream: Upstream, source: GitSource) -> None:
        upstream.git("tag", "v1")
        upstream.git("branch", "other")
        source.fetch()
        refs = subprocess.run(["git", "for-each-ref", "--format=%(refname)"], cwd=source.mirror, capture_output=True, check=True).stdout
        assert refs.decode().split() == ["refs/heads/main"]

    def test_a_force_push_is_followed_and_said(self, upstream: Upstream, source: GitSource, caplog: pytest.LogCaptureFixture) -> None:
        upstream.commit("second", {"desired/x": b"x"})
        before = source.fetch()
        upstream.git("commit", "--quiet", "--amend", "-m", "second, rewritten")
        after = source.fetch()
        assert source.rewritten
        assert not source.descends(after, before)
        assert f"branch main was rewritten: {after} does not descend from {before}" in caplog.text
        assert source.fetch() == after
        assert source.rewritten
        again = GitSource(upstream.url, "main", source.mirror.parent, allow_file=True)
        again.fetch()
        assert again.rewritten, "a restart must not make it a plain commit"
        upstream.commit("third", {})
        again.fetch()
        assert not again.rewritten

    def test_an_annotated_tag_and_a_plain_one_can_be_followed(self, upstream: Upstream, tmp_path: Path) -> None:
        first = upstream.git("rev-parse", "HEAD")
        upstream.git("tag", "-a", "-m", "to production", "v1")
        upstream.git("tag", "plain")
        for tag in ("v1", "plain"):
            source = GitSource(upstream.url, directory=tmp_path / "cache", tag=tag, allow_file=True)
            assert source.head() == source.fetch() == first
            assert source.read(first).subject == "first"
        second = upstream.commit("second", {})
        upstream.git("tag", "--force", "plain")
        assert source.fetch() == second
        assert not source.rewritten
        upstream.git("tag", "--force", "plain", first)
        assert source.fetch() == first
        assert source.rewritten, "a tag that goes back is no wish to delete"
        upstream.git("tag", "--delete", "plain")
        with pytest.raises(SourceError, match=f"tag plain does not exist; it was last seen at {first}"):
            source.fetch()

    def test_a_shallow_mirror_begins_with_few_commits_and_then_misses_none(self, upstream: Upstream, tmp_path: Path) -> None:
        for number in range(5):
            upstream.commit(f"number {number}", {})
        source = GitSource(upstream.url, directory=tmp_path / "cache", depth=1, allow_file=True)

        def count() -> bytes:
            command = ["git", "rev-list", "--count", "refs/heads/main"]
            return subprocess.run(command, cwd=source.mirror, capture_output=True, check=True).stdout

        before = source.fetch()
        assert count() == b"1\n"
        for number in range(5):
            upstream.commit(f"more {number}", {})
        after = source.fetch()
        assert source.descends(after, before)
        assert not source.rewritten
        assert count() == b"6\n"

    def test_descent_is_answered_for_known_and_unknown_commits(self, upstream: Upstream, source: GitSource) -> None:
        first = source.fetch()
        upstream.commit("second", {})
        second = source.fetch()
        assert source.descends(second, first)
        assert source.descends(first, first)
        assert not source.descends(first, second)
        assert not source.descends(first, "1" * 40)

    def test_a_vanished_branch_is_its_own_message(self, upstream: Upstream, source: GitSource) -> None:
        last = source.fetch()
        upstream.git("branch", "--quiet", "-m", "main", "trunk")
        with pytest.raises(SourceError, match=r"branch main does not exist; create it"):
            source.head()
        with pytest.raises(SourceError, match=f"branch main does not exist; it was last seen at {last}"):
            source.fetch()
        assert source.read(last).tree

    def test_a_missing_repository_is_named(self, tmp_path: Path) -> None:
        source = GitSource((tmp_path / "nothing").as_uri(), directory=tmp_path / "cache", allow_file=True)
        with pytest.raises(SourceError, match=r"^file:///.*nothing: git ls-remote failed: fatal:"):
            source.head()

    def test_a_mirror_survives_a_killed_fetch(self, upstream: Upstream, source: GitSource) -> None:
        source.fetch()
        (source.mirror / "refs/heads/main.lock").touch()
        (source.mirror / "shallow.lock").touch()
        second = upstream.commit("second", {})
        assert source.fetch() == second

    def test_many_threads_share_one_mirror(self, upstream: Upstream, tmp_path: Path) -> None:
        found: list[str] = []
        sources = [GitSource(upstream.url, directory=tmp_path / "cache", allow_file=True) for _ in range(3)]
        threads = [threading.Thread(target=lambda one=one: found.append(one.read(one.fetch()).commit)) for one in sources]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [upstream.git("rev-parse", "HEAD")] * 3

    def test_variables_of_the_caller_do_not_lead_astray(
        self, upstream: Upstream, source: GitSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
        monkeypatch.setenv("GIT_TRACE", "1")
        assert source.read(source.fetch()).subject == "first"

    def test_a_silent_server_is_given_up(self, tmp_path: Path) -> None:
        script = tmp_path / "ssh"
        script.write_text("#!/bin/sh\nsleep 60\n")
        script.chmod(0o755)
        git = Git("the repository", 0.3, {"GIT_SSH_COMMAND": str(script)})
        with pytest.raises(SourceError, match=r"the repository: no answer within 0\.3 s"):
            git.run("ls-remote", "--", "git@example.org:x")

    def test_a_cache_that_cannot_be_written_is_named(self, upstream: Upstream, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(SourceError, match="the mirror needs a directory that can be written"):
            GitSource(upstream.url, directory=tmp_path / "file", allow_file=True).fetch()


class Forge:
    """A git server over https that wants a login, in git's simplest form: files."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.ca_file, self.seen = directory / "ca.pem", list[str]()
        seen = self.seen

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.headers.get("Authorization", ""))
                if self.path.startswith("/moved"):
                    self.send_response(301)
                    self.send_header("Location", "https://elsewhere.example/")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif seen[-1] != "Basic " + base64.b64encode(b"bot:s3cret").decode():
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="git"')
                    self.end_headers()
                else:
                    super().do_GET()

            def log_message(self, format: str, *arguments: object) -> None:
                return

        context = make_certificate(self.ca_file, ["127.0.0.1"], 1)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class TestHttps:
    @pytest.fixture
    def forge(self, upstream: Upstream, tmp_path: Path) -> Iterator[Forge]:
        upstream.git("update-server-info")
        forge = Forge(upstream.path, tmp_path)
        yield forge
        forge.close()

    def source(self, forge: Forge, tmp_path: Path, token: str, path: str = "/.git") -> GitSource:
        credentials = Credentials(SecretValue(token), "bot", ca_file=forge.ca_file)
        return GitSource(forge.url + path, directory=tmp_path / "cache", credentials=credentials, timeout=20)

    def test_a_token_opens_a_private_repository_and_stays_out_of_the_mirror(self, forge: Forge, tmp_path: Path) -> None:
        source = self.source(forge, tmp_path, "s3cret")
        assert source.read(source.fetch()).subject == "first"
        written = b"".join(path.read_bytes() for path in source.mirror.rglob("*") if path.is_file())
        assert b"s3cret" not in written
        assert base64.b64encode(b"bot:s3cret") not in written

    def test_a_wrong_token_is_refused_without_being_shown(self, forge: Forge, tmp_path: Path) -> None:
        with pytest.raises(
            SourceError, match=r"^https://127\.0\.0\.1:\d+/\.git: git ls-remote failed: .*; the server wants a login; set the token"
        ) as caught:
            self.source(forge, tmp_path, "wr0ng").head()
        assert "wr0ng" not in str(caught.value)
        assert base64.b64encode(b"bot:wr0ng").decode() not in str(caught.value)

    def test_a_redirect_is_not_followed_with_a_credential(self, forge: Forge, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="the repository has moved; set its new address"):
            self.source(forge, tmp_path, "s3cret", "/moved/.git").head()

    def test_a_server_that_nobody_vouches_for_is_refused(self, forge: Forge, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="is not trusted; name its authority as the CA file"):
            GitSource(forge.url + "/.git", directory=tmp_path / "cache").head()
        assert forge.seen == []


@pytest.mark.parametrize("quoted", ["canary/0123456789", "canary%2F0123456789", base64.b64encode(b"git:canary/0123456789").decode()])
def test_what_a_server_says_of_our_login_is_told_without_it(quoted: str) -> None:
    credentials = Credentials(SecretValue("canary/0123456789"))
    git = Git("https://example.org/x.git", secrets=credentials.secrets())
    words = git.mask(f"remote: cannot let in {quoted}\nfatal: https://me:{quoted}@example.org/x.git".encode())
    assert "cannot let in ***" in words
    assert quoted not in words
    assert "0123456789" not in words


class TestSettings:
    @pytest.mark.parametrize(
        "url",
        [
            "http://example.org/x.git",
            "git://example.org/x.git",
            "ext::sh -c date",
            "--upload-pack=date",
            "/srv/x.git",
            "ssh://-oProxyCommand=date/x",
            "-oProxyCommand=date@example.org:x",
            "https://me:secret@example.org/x.git",
            "https://secret@example.org/x.git",
            "https://me:p@secret@example.org/x.git",
            "https://me:secret/y@example.org/x.git",
            "ssh://me:secret@example.org/x.git",
            "ssh://me:secret/y@example.org/x.git",
            "http://me:p@secret@example.org/x.git",
            "http://me:secret/y@example.org/x.git",
            "https://example.org/x y",
            "https://example.org/x\n",
            "file:///srv/x.git",
        ],
    )
    def test_an_address_that_git_could_misread_is_refused_without_showing_a_credential(self, url: str, tmp_path: Path) -> None:
        with pytest.raises(SettingsError) as caught:
            GitSource(url, directory=tmp_path)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "https://example.org/x.git",
            "https://example.org:8443/@team/x.git",
            "https://[2001:db8::1]/x.git",
            "ssh://git@example.org:2222/x.git",
            "git@example.org:team/x.git",
        ],
    )
    def test_the_usual_addresses_are_taken(self, url: str, tmp_path: Path) -> None:
        GitSource(url, directory=tmp_path)

    @pytest.mark.parametrize("branch", ["", "-x", "a..b", "a//b", "a b", "x.lock", "x/", "refs*", "a@{1}", "a\n"])
    def test_a_branch_that_is_not_a_plain_name_is_refused(self, branch: str, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="is not a branch name"):
            GitSource("https://example.org/x.git", branch, tmp_path)

    def test_a_token_goes_only_to_its_own_server_and_by_the_environment(self) -> None:
        credentials = Credentials(token=SecretValue("s3cret"), username="bot")
        assert credentials.configuration("https://git.example.org/team/x.git") == {
            "http.https://git.example.org/.extraHeader": "Authorization: Basic Ym90OnMzY3JldA=="
        }
        assert credentials.configuration("ssh://git@example.org/x") == {}

    def test_an_ssh_key_is_the_only_one_offered_and_the_host_must_be_known(self) -> None:
        command = Credentials(ssh_key=Path("/keys/a b"), known_hosts=Path("/keys/hosts")).environment()["GIT_SSH_COMMAND"]
        assert command == (
            "ssh -F /dev/null -i '/keys/a b' -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10"
            " -o IdentitiesOnly=yes -o UserKnownHostsFile=/keys/hosts"
        )

    def test_messages_show_no_credential(self) -> None:
        git = Git("x", secrets=(SecretValue("s3cret"),))
        assert git.mask(b"fatal: https://bot:abc@example.org/x\n\n  s3cret refused\n") == "fatal: https://***@example.org/x; *** refused"
        assert masked("ssh://git@example.org/x") == "ssh://***@example.org/x"

    def test_only_the_allowed_protocols_work(self, upstream: Upstream, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="not allowed"):
            Git("x").run("ls-remote", "--", upstream.url)
        with pytest.raises(SourceError, match="not allowed"):
            Git("x", allow_file=True).run("ls-remote", "--", f"ext::touch {tmp_path}/pwned")
        assert not (tmp_path / "pwned").exists()


class TestWorkingTree:
    def test_a_plain_directory_is_read_by_the_same_rules(self, tmp_path: Path) -> None:
        (tmp_path / "mail").mkdir()
        (tmp_path / "mail/dns.yaml").write_bytes(b"x")
        revision = WorkingTree().read(tmp_path)
        assert (revision.commit, revision.tree) == ("", {"mail/dns.yaml": b"x"})
        assert WorkingTree().read(tmp_path, "mail").tree == {"mail/dns.yaml": b"x"}

    def test_a_repository_gives_its_head_and_whether_it_differs(self, upstream: Upstream) -> None:
        head = upstream.git("rev-parse", "HEAD")
        revision = WorkingTree().read(upstream.path, "desired")
        assert (revision.commit, revision.subject, set(revision.tree)) == (head, "first", {"desired/mail/dns.yaml"})
        (upstream.path / "desired/new.yaml").touch()
        assert WorkingTree().read(upstream.path / "desired").commit == f"{head}-dirty"
        assert WorkingTree().read(upstream.path / "desired/mail").commit == head

    def test_the_settings_of_the_repository_run_nothing(self, upstream: Upstream, tmp_path: Path) -> None:
        upstream.git("config", "core.fsmonitor", f"touch {tmp_path}/pwned; false")
        WorkingTree().read(upstream.path)
        assert not (tmp_path / "pwned").exists()

    def test_links_and_special_files_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("/etc/passwd")
        (tmp_path / "folder").symlink_to("/etc")
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InputError) as caught:
            WorkingTree().read(tmp_path)
        assert [problem.file for problem in caught.value.problems] == ["folder", "link", "pipe"]

    def test_a_missing_directory_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="there is no such directory"):
            WorkingTree().read(tmp_path / "nothing")
