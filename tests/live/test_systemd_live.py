"""The unit file under a systemd that runs: the daemon behind all of its walls, with credentials as the guide puts them.

RECONCILER_SYSTEMD names an image that has systemd and the program; ``deploy/image/rehearse`` builds one. It boots in a container of full
rights, because a service manager needs them, and with the network of the machine, as in ``test_image_live``.
"""

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from reconciler_cloudflare.emulator import CloudflareEmulator
from tests.e2e.git_servers import Sshd
from tests.live.test_image_live import PROGRAM, ROOT, ZONE, House, containers, record, records, until
from tests.unit.test_signatures import Ring, Team

IMAGE = os.environ.get("RECONCILER_SYSTEMD", "")
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not IMAGE, reason="RECONCILER_SYSTEMD names no image; deploy/image/rehearse builds one"),
    pytest.mark.timeout(180),
]
UNIT = ROOT / "deploy/systemd/reconciler.service"


class Machine:
    """A container in which systemd is the first process."""

    def __init__(self) -> None:
        self.name = f"reconciler-systemd-{secrets.token_hex(4)}"
        boot = ("--privileged", "--systemd=always", "--network=host", "--entrypoint=/lib/systemd/systemd")
        containers("run", "--detach", "--name", self.name, *boot, IMAGE)
        until(lambda: self.run("systemctl is-system-running || true").strip() in ("running", "degraded"), "the machine is up")

    def run(self, script: str) -> str:
        return containers("exec", "--user=0", self.name, "sh", "-ec", script)

    def give(self, source: Path, target: str) -> None:
        containers("cp", str(source), f"{self.name}:{target}")

    def log(self) -> str:
        return self.run("journalctl --unit reconciler --no-pager --output cat")

    def service(self, key: str) -> str:
        return self.run(f"systemctl show --property {key} --value reconciler").strip()

    def close(self) -> None:
        subprocess.run([PROGRAM, "rm", "--force", "--volumes", "--time", "2", self.name], capture_output=True, timeout=60, check=False)


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    made.give(UNIT, "/etc/systemd/system/reconciler.service")
    yield made
    made.close()


@pytest.fixture
def cloudflare() -> Iterator[CloudflareEmulator]:
    made = CloudflareEmulator({"retry_after": 0, "zones": {ZONE: {}}})
    made.start()
    yield made
    made.stop()


def test_the_service_converges_what_comes_over_ssh_signed_by_openpgp_reloads_and_ends(
    machine: Machine, tmp_path: Path, cloudflare: CloudflareEmulator
) -> None:
    for folder in ("ring", "sshd"):
        (tmp_path / folder).mkdir()
    team, ring, sshd = Team(tmp_path), Ring(tmp_path / "ring"), Sshd(tmp_path / "sshd")
    here = "/etc/reconciler"
    repository = {
        "url": sshd.url(team.upstream.path),
        "ssh_key": f"{here}/git-key",
        "known_hosts": f"{here}/known-hosts",
        "signatures": {"policy": "head", "gpg_keys": f"{here}/people.asc"},
    }
    house = House(tmp_path, cloudflare, repository)
    house.give("git-key", sshd.key)
    house.give("known-hosts", sshd.known_hosts())
    house.give("people.asc", ring.exported("ada@example.org"))
    given = yaml.safe_load((house.settings / "reconciler.yaml").read_text())
    given["targets"]["cloudflare"]["token"] = f"file:{here}/cloudflare-token"
    house.give("reconciler.yaml", yaml.safe_dump(given))
    try:
        record(team, "192.0.2.1")
        ring.commit(team, "# by ada", "ada@example.org")
        machine.run(f"install -d -m 0750 -g reconciler {here}")
        machine.give(house.secrets, f"{here}/given")
        machine.run(f"install -m 0640 -g reconciler -t {here} {here}/given/*; rm -r {here}/given; systemctl start reconciler")
        until(lambda: records(cloudflare) == {f"www.{ZONE}": "192.0.2.1"}, "the commit", machine.log)
        confined = machine.run(f"grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/{machine.service('MainPID')}/status").split()
        assert confined == ["CapBnd:", "0000000000000000", "NoNewPrivs:", "1", "Seccomp:", "2"]
        machine.run("systemctl reload reconciler")
        until(lambda: "the settings were read anew" in machine.log(), "the reload", machine.log)
        machine.run("timeout 20 systemctl stop reconciler")
        assert (machine.service("Result"), machine.service("ExecMainStatus")) == ("success", "0")
        assert machine.run("stat -c '%a %U' /var/lib/reconciler").split() == ["700", "reconciler"]
    finally:
        sshd.stop()
        ring.close()


def test_all_drivers_keep_every_promise_of_the_demo_behind_the_walls_of_the_service(machine: Machine) -> None:
    machine.give(ROOT / "desired", "/opt/desired")
    story = "ExecStart=/opt/reconciler/bin/reconciler demo --desired /opt/desired"
    machine.run(
        "mkdir /etc/systemd/system/reconciler.service.d;"
        f"printf '[Service]\\nType=oneshot\\nRestart=no\\nExecStart=\\n{story}\\n' > /etc/systemd/system/reconciler.service.d/demo.conf;"
        "systemctl daemon-reload; systemctl start reconciler || true"
    )
    assert "every promise was kept" in machine.log()
