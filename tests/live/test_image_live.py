"""The built image at work: as nobody special, on a read-only root, with the credentials and the git servers that a user has.

RECONCILER_IMAGE names it, RECONCILER_CONTAINERS the program that runs it (podman, or docker), and RECONCILER_COMPOSE the one that reads
Compose files (podman-compose, or "docker compose"). ``deploy/image/rehearse`` builds one, on a
stand-in base where no registry of images can be reached, and comes here. The containers use the network of the machine, to reach what the
tests start on its loopback; nothing else is reached.
"""

import json
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler_cloudflare.emulator import CloudflareEmulator
from tests.e2e.git_servers import TOKEN, HttpBackend, Sshd
from tests.unit.test_signatures import Ring, Team

IMAGE = os.environ.get("RECONCILER_IMAGE", "")
PROGRAM = os.environ.get("RECONCILER_CONTAINERS", "podman")
COMPOSE = shlex.split(os.environ.get("RECONCILER_COMPOSE", ""))
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not IMAGE, reason="RECONCILER_IMAGE names no image; deploy/image/rehearse builds one"),
    pytest.mark.timeout(180),
]
ROOT = Path(__file__).parents[2]
ZONE = "example.com"
STACK = "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: mail}\nspec: {interval: 5}\n"
TIGHT = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp:size=64m,mode=1777", "--network=host")
"""As deploy/compose and deploy/kubernetes run it."""
if Path(PROGRAM).name == "podman":
    TIGHT += ("--read-only-tmpfs=false",)  # which would let it write to places where no other program does
GRACE = 90
MEGABYTES = {"the program itself": 10, "Python's packages": 190, "Debian's programs": 25}
"""Most of each layer on the base, the newest first."""
SIZE = re.compile(r"([\d.]+) ?([kMG]?B)")
UNITS = {"B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}


def containers(*arguments: str, fails: bool = False) -> str:
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=150)
    assert fails or done.returncode == 0, done.stdout + done.stderr
    return done.stdout if not fails else f"{done.returncode} {done.stdout}{done.stderr}"


def once(*arguments: str, entrypoint: str = "", options: tuple[str, ...] = ()) -> str:
    """Run the image to its end."""
    other = (f"--entrypoint={entrypoint}",) if entrypoint else ()
    return containers("run", "--rm", *TIGHT, *options, *other, IMAGE, *arguments)


def config() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(containers("image", "inspect", IMAGE))[0]
    return {**found["Config"], "Healthcheck": found["Config"].get("Healthcheck") or found["Healthcheck"]}


def until(true: Callable[[], bool], what: str, more: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + 45
    while not true():
        assert time.monotonic() < deadline, f"not in time: {what}\n{more()}"
        time.sleep(0.2)


# -- what is in it -----------------------------------------------------------------------------------------------------------------


def test_it_says_what_it_is_without_any_settings() -> None:
    assert re.fullmatch(r"reconciler, version \d+\.\d+\S*\n", once("--version"))
    assert "Run the daemon." in once("--help")


def test_it_is_nobody_special_and_can_write_to_its_state_and_to_tmp_alone() -> None:
    folders = "find / -path /proc -prune -o -path /sys -prune -o -type d -print"
    script = f"id -u; id -g; for one in $({folders}); do touch $one/x && echo $one; done"
    user, group, *writable = once("-c", f"({script}) 2>/dev/null; true", entrypoint="sh").split()
    assert (user, group) == ("10001", "10001")
    assert {one for one in writable if not one.startswith("/dev/")} == {"/tmp", "/var/lib/reconciler"}
    assert config()["User"] == "10001:10001"


def test_it_has_the_programs_that_it_calls_and_no_tools_of_its_making() -> None:
    script = "git --version; ssh -V 2>&1; ssh-keygen -? 2>&1 | head -1; gpg --version | head -1; ls /opt/reconciler/bin; ls -d /src /opt/*"
    said = once("-c", f"{script}; true", entrypoint="sh")
    assert all(word in said for word in ("git version", "OpenSSH_", "gpg (GnuPG)", "reconciler"))
    assert not {"pip", "hatchling", "pytest", "/src", "/opt/build", "/opt/program", "/opt/wheels"} & set(said.split())


def test_every_module_of_ours_can_be_imported_in_it() -> None:
    script = """
import importlib, pkgutil
names = ["reconciler", *(one.name for one in pkgutil.iter_modules() if one.name.startswith("reconciler_"))]
every = [one.name for name in names for one in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}.")]
for one in every:
    if ".migrations." not in one and one != "reconciler.testing":
        importlib.import_module(one)
print(len(every))
"""
    assert int(once("-c", script, entrypoint="python")) > 200


def test_its_layers_are_small() -> None:
    sizes = [float(size) * UNITS[unit] for size, unit in SIZE.findall(containers("history", "--format={{.Size}}", IMAGE))]
    ours = [size for size in sizes if size > 0.1][:3]
    print(dict(zip(MEGABYTES, ours, strict=True)))  # what the reader of a rehearsal wants to know
    assert {name: size for (name, most), size in zip(MEGABYTES.items(), ours, strict=True) if size > most} == {}


def test_all_drivers_keep_every_promise_of_the_demo_in_it() -> None:
    said = once("demo", options=("--volume", f"{ROOT}/desired:/var/lib/reconciler/desired:ro"))
    assert "every promise was kept" in said


# -- the daemon --------------------------------------------------------------------------------------------------------------------


class House:
    """The folders that a user mounts, and a container of the image on them."""

    def __init__(self, root: Path, cloudflare: CloudflareEmulator, repository: dict[str, Any]) -> None:
        self.settings, self.secrets = root / "settings", root / "secrets"
        self.name = f"reconciler-test-{secrets.token_hex(4)}"
        for folder in (self.settings, self.secrets):
            folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.listen = f"127.0.0.1:{free.getsockname()[1]}"
        self.give("cloudflare-token", cloudflare.token)
        target = {**cloudflare.settings(), "requests_per_second": 1000, "token": "file:/run/secrets/cloudflare-token"}
        given = {"repository": {"poll": 1, **repository}, "targets": {"cloudflare": target}, "http": {"listen": self.listen}}
        (self.settings / "reconciler.yaml").write_text(yaml.safe_dump(given))

    def give(self, name: str, text: str | Path) -> str:
        """Put a credential where the container sees it; give the path there."""
        file = self.secrets / name
        file.write_text(text.read_text() if isinstance(text, Path) else text)
        file.chmod(0o444)
        return f"/run/secrets/{name}"

    def start(self, *options: str) -> None:
        volumes = (f"{self.settings}:/etc/reconciler:ro", f"{self.secrets}:/run/secrets:ro", f"{self.name}:/var/lib/reconciler")
        mounts = [word for one in volumes for word in ("--volume", one)]
        containers("run", "--detach", "--name", self.name, *(options or TIGHT), *mounts, IMAGE)

    def well(self) -> bool:
        """Run the image's own health check, as its program does."""
        kind, *command = config()["Healthcheck"]["Test"]
        assert kind == "CMD"
        return containers("exec", self.name, *command, fails=True).startswith("0 ")

    def log(self) -> str:
        return containers("logs", self.name, fails=True)

    def end(self) -> tuple[float, int]:
        """Give how many seconds the end takes, and the exit code."""
        began = time.monotonic()
        containers("stop", "--time", str(GRACE), self.name)
        took = time.monotonic() - began
        return took, int(containers("inspect", "--format={{.State.ExitCode}}", self.name))

    def remove(self) -> None:
        containers("rm", "--force", self.name, fails=True)

    def close(self) -> None:
        self.remove()
        containers("volume", "rm", "--force", self.name, fails=True)


@pytest.fixture
def cloudflare() -> Iterator[CloudflareEmulator]:
    made = CloudflareEmulator({"retry_after": 0, "zones": {ZONE: {}}})
    made.start()
    yield made
    made.stop()


def records(cloudflare: CloudflareEmulator) -> dict[str, str]:
    return {one["name"]: one["content"] for one in cloudflare.zones[ZONE].records.values()}


def record(team: Team, content: str) -> None:
    """Write the stack into the team's working copy; the next commit takes it along."""
    folder = team.upstream.path / "desired/mail"
    (folder / "stack.yaml").write_text(STACK)
    spec = f"{{zone: {ZONE}, name: www.{ZONE}, type: A, content: {content}}}"
    (folder / "dns.yaml").write_text(f"apiVersion: cloudflare/v1\nkind: DNSRecord\nmetadata: {{name: www}}\nspec: {spec}\n")


def signed(team: Team, content: str) -> None:
    record(team, content)
    team.upstream.git("config", "gpg.format", "ssh")
    team.upstream.git("config", "user.signingKey", str(team.ada))
    team.upstream.git("add", "--all")
    team.upstream.git("commit", "--quiet", "--gpg-sign", "-m", "signed")


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


@pytest.fixture
def house(tmp_path: Path, team: Team, cloudflare: CloudflareEmulator) -> Iterator[House]:
    """A daemon that reads over https with a token and an authority of the house's own, and takes what ada signed with her SSH key."""
    backend = HttpBackend(team.upstream.path.parent, tmp_path)
    repository = {
        "url": f"{backend.url}/upstream/.git",
        "token": "file:/run/secrets/git-token",
        "ca_file": "/run/secrets/ca.pem",
        "signatures": {"policy": "head", "allowed_signers": "/run/secrets/signers"},
    }
    made = House(tmp_path, cloudflare, repository)
    made.give("git-token", TOKEN)
    made.give("ca.pem", backend.ca_file)
    made.give("signers", team.signers)
    yield made
    made.close()
    backend.close()


def test_it_converges_what_comes_over_https_signed_by_ssh_and_nothing_else(
    house: House, team: Team, cloudflare: CloudflareEmulator
) -> None:
    signed(team, "192.0.2.1")
    house.start()
    until(lambda: records(cloudflare) == {f"www.{ZONE}": "192.0.2.1"}, "the signed commit", house.log)
    record(team, "192.0.2.66")
    team.upstream.commit("not signed", {})
    until(lambda: "is not signed" in house.log(), "the refusal", house.log)
    assert records(cloudflare) == {f"www.{ZONE}": "192.0.2.1"}
    signed(team, "192.0.2.2")
    until(lambda: records(cloudflare) == {f"www.{ZONE}": "192.0.2.2"}, "the next signed commit", house.log)


def test_its_health_check_is_green_while_it_lives_and_red_while_it_hangs(house: House, team: Team) -> None:
    signed(team, "192.0.2.1")
    house.start()
    until(house.well, "green", house.log)
    containers("exec", house.name, "sh", "-c", "kill -STOP -1")  # all but its init and who says so
    assert not house.well()
    containers("exec", house.name, "sh", "-c", "kill -CONT -1")
    until(house.well, "green again", house.log)


def test_a_git_server_that_is_away_makes_it_no_sick_container(house: House, team: Team) -> None:
    (house.secrets / "git-token").unlink()
    house.give("git-token", "wrong-token")
    signed(team, "192.0.2.1")
    house.start()
    until(lambda: "the server wants a login" in house.log(), "the trouble is said", house.log)
    assert house.well()


def test_it_ends_well_within_its_grace_and_goes_on_where_it_was(house: House, team: Team, cloudflare: CloudflareEmulator) -> None:
    signed(team, "192.0.2.1")
    house.start()
    until(lambda: bool(records(cloudflare)), "the first commit", house.log)
    took, code = house.end()
    assert took < 10
    assert code == 0
    house.remove()
    house.start()
    assert house.end()[0] < 10, "also while it is not yet up"
    house.remove()
    house.start()
    until(house.well, "green", house.log)
    status = json.loads(
        containers("exec", house.name, "reconciler", "--settings", "/etc/reconciler/reconciler.yaml", "status", "-o", "json")
    )
    assert [(one["stack"], one["verdict"]) for one in status] == [("mail", "converged")]


def test_it_tries_to_write_nowhere_else_where_the_root_would_let_it(house: House, team: Team, cloudflare: CloudflareEmulator) -> None:
    signed(team, "192.0.2.1")
    house.start("--network=host")
    until(lambda: bool(records(cloudflare)), "the first commit", house.log)
    assert house.well()
    house.end()
    changed = {line.split(maxsplit=1)[1] for line in containers("diff", house.name).splitlines()}
    by_the_runtime = ("/etc", "/run", "/dev", "/proc", "/sys")
    assert {one for one in changed if not one.startswith(("/tmp", "/var/lib/reconciler", *by_the_runtime))} <= {"/var", "/var/lib"}


def test_it_converges_what_comes_over_ssh_signed_by_openpgp(tmp_path: Path, team: Team, cloudflare: CloudflareEmulator) -> None:
    (tmp_path / "ring").mkdir()
    (tmp_path / "sshd").mkdir()
    ring, sshd = Ring(tmp_path / "ring"), Sshd(tmp_path / "sshd")
    repository = {
        "url": sshd.url(team.upstream.path),
        "ssh_key": "/run/secrets/git-key",
        "known_hosts": "/run/secrets/known-hosts",
        "signatures": {"policy": "head", "gpg_keys": "/run/secrets/people.asc"},
    }
    house = House(tmp_path, cloudflare, repository)
    house.give("git-key", sshd.key)
    house.give("known-hosts", sshd.known_hosts())
    house.give("people.asc", ring.exported("ada@example.org"))
    try:
        record(team, "192.0.2.1")
        ring.commit(team, "# by ada", "ada@example.org")
        house.start()
        until(lambda: f"www.{ZONE}" in records(cloudflare), "the signed commit", house.log)
        record(team, "192.0.2.66")
        ring.commit(team, "# by eve", "eve@example.org")
        until(lambda: "is signed with a key that is not known here" in house.log(), "the refusal", house.log)
        assert records(cloudflare)[f"www.{ZONE}"] == "192.0.2.1"
    finally:
        house.close()
        sshd.stop()
        ring.close()


@pytest.mark.skipif(not COMPOSE, reason="RECONCILER_COMPOSE names no program that reads Compose files")
def test_the_compose_file_runs_it_with_credentials_that_are_its_own(
    tmp_path: Path, house: House, team: Team, cloudflare: CloudflareEmulator
) -> None:
    folder = tmp_path / "compose"
    shutil.copytree(ROOT / "deploy/compose", folder)
    shutil.rmtree(folder / "settings")
    house.settings.rename(folder / "settings")
    house.secrets.rename(folder / "secrets")
    if os.geteuid() == 0:  # as the guide says; whoever is not root leaves them readable
        for file in (folder / "secrets").iterdir():
            os.chown(file, 10001, 10001)
            file.chmod(0o400)
    beside = {"services": {"reconciler": {"image": IMAGE, "network_mode": "host", "container_name": house.name}}}
    (folder / "beside.yaml").write_text(yaml.safe_dump(beside))
    signed(team, "192.0.2.1")

    def compose(*arguments: str) -> None:
        files = ("--file", "compose.yaml", "--file", "beside.yaml", "--project-name", house.name)
        done = subprocess.run([*COMPOSE, *files, *arguments], cwd=folder, capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, done.stdout + done.stderr

    compose("up", "--detach", "--no-build")
    try:
        until(lambda: records(cloudflare) == {f"www.{ZONE}": "192.0.2.1"}, "the commit", house.log)
        assert house.well()
        host = json.loads(containers("inspect", house.name))[0]["HostConfig"]
        assert host["ReadonlyRootfs"] is True
        assert host["Memory"] == 512 * 1024**2
    finally:
        compose("down", "--volumes")
