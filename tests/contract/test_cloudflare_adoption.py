"""From a zone that already runs to a stack that keeps it, by the commands that a person types."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from cloudflare_world import ZONE, CloudflareWorld
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from reconciler.cli import main
from reconciler.resource import JSONObject
from reconciler_cloudflare.emulator import CloudflareEmulator

KEY = rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
DKIM = f"v=DKIM1; k=rsa; p={b64encode(KEY).decode()}"
RECORDS: list[JSONObject] = [
    {"name": "@", "type": "MX", "content": "mail.example.com", "priority": 1, "comment": "cut over in April"},
    {"name": "@", "type": "TXT", "content": "v=spf1 ip4:192.0.2.1 ~all"},
    {"name": "@", "type": "TXT", "content": 'odd ${text} with "quotes" \\ and ümlaut'},
    {"name": "@", "type": "CAA", "data": {"flags": 0, "tag": "issue", "value": "letsencrypt.org"}},
    {"name": "s1._domainkey", "type": "TXT", "content": f'"{DKIM}"'},
    {"name": "_dmarc", "type": "TXT", "content": '"v=DMARC1; p=quarantine"'},
    {"name": "mail", "type": "A", "content": "192.0.2.1", "ttl": 300},
    {"name": "mail", "type": "AAAA", "content": "2001:db8::1"},
    {"name": "www", "type": "CNAME", "content": "example.com", "proxied": True},
    {"name": "*", "type": "A", "content": "192.0.2.2"},
    {"name": "yes", "type": "TXT", "content": "true"},
    {"name": "_imaps._tcp", "type": "SRV", "data": {"priority": 0, "weight": 1, "port": 993, "target": "mail.example.com"}},
    {"name": "theirs", "type": "A", "content": "192.0.2.3", "comment": "reconciler:other/stack:DNSRecord/theirs"},
]


@dataclass
class Person:
    """Somebody in an empty directory with a zone, a settings file and a terminal."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    world: CloudflareWorld

    def settings(self, **targets: JSONObject) -> None:
        (self.folder / "reconciler.yaml").write_text(yaml.safe_dump({"targets": targets, "engine": {"attempts": 2, "backoff": 0.01}}))

    def run(self, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = self.capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    def live(self) -> list[JSONObject]:
        volatile = {"comment", "modified_on", "comment_modified_on"}
        return [{key: value for key, value in one.items() if key not in volatile} for one in self.world.zone.listing()]


EMULATOR = CloudflareEmulator


@pytest.fixture
def person(emulator: CloudflareEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Person:
    monkeypatch.chdir(tmp_path)
    world = CloudflareWorld(emulator)
    world.reload(zones={ZONE: {"records": RECORDS}})
    person = Person(tmp_path, capsys, world)
    person.settings(cloudflare=emulator.settings())
    return person


def test_an_imported_zone_is_valid_is_only_adopted_and_then_in_sync(person: Person) -> None:
    before = person.live()
    assert person.run("import", "cloudflare", "--zone", ZONE, "--stack", "desired/dns")[0] == 0
    code, out, err = person.run("validate")
    assert (code, out.startswith("dns: 12 resources"), err) == (0, True, "")
    code, out, _ = person.run("plan", "--path", "desired")
    lines = out.splitlines()
    assert code == 2
    assert lines[0] == "wave 1"
    assert len([line for line in lines if line.startswith("  ⊕ cloudflare/DNSRecord/")]) == 12
    assert not [line for line in lines if line.startswith("      ")]
    assert lines[-1].startswith("dns: 12 to adopt; 0 unchanged")
    assert person.run("apply", "--path", "desired", "--yes")[0] == 0
    code, out, _ = person.run("plan", "--path", "desired")
    assert (code, out.startswith("dns: nothing to do; 12 unchanged; 1 of others left alone in the zone example.com; digest")) == (0, True)
    assert person.live() == before


def test_what_somebody_deletes_afterwards_comes_back_and_the_plan_names_the_hand(person: Person) -> None:
    person.run("import", "cloudflare", "--zone", ZONE, "--stack", "desired/dns")
    person.run("apply", "--path", "desired", "--yes")
    before = person.live()
    mx = next(one for one in person.world.zone.listing() if one["type"] == "MX")
    person.world.zone.delete(mx["id"])
    code, out, _ = person.run("plan", "--path", "desired")
    assert code == 2
    (line,) = [one.strip() for one in out.splitlines() if "cloudflare/DNSRecord/" in one]
    assert line.startswith("+ cloudflare/DNSRecord/mx (create, drift, by somebody@example.com at ")
    assert line.endswith(" UTC (rec_del via UI))")
    assert person.run("apply", "--path", "desired", "--yes")[0] == 0
    without = ("id", "created_on")
    anew = [{key: value for key, value in one.items() if key not in without} for one in person.live()]
    assert sorted(map(str, anew)) == sorted(str({key: value for key, value in one.items() if key not in without}) for one in before)


def test_a_zone_in_a_target_of_another_name_is_imported_with_that_target(person: Person, emulator: CloudflareEmulator) -> None:
    person.settings(**{"dns-test": {"driver": "cloudflare", **emulator.settings()}})
    assert person.run("import", "cloudflare", f"--zone={ZONE}", "--target", "dns-test", "--stack", "desired/dns")[0] == 0
    code, out, _ = person.run("plan", "--path", "desired")
    assert (code, "12 to adopt; 0 unchanged" in out) == (2, True)


def test_without_a_file_the_zone_is_printed_and_nothing_is_written(person: Person) -> None:
    writes = person.world.writes()
    code, out, err = person.run("import", "cloudflare", "--zone", "Example.COM.")
    assert (code, err) == (0, "")
    assert len([one for one in yaml.safe_load_all(out) if one]) == 12
    assert "# Not taken over" in out
    assert sorted(path.name for path in person.folder.iterdir()) == ["reconciler.yaml"]
    assert person.world.writes() == writes


def test_a_file_that_exists_is_written_over_only_by_force(person: Person) -> None:
    file = person.folder / "zone.yaml"
    file.write_text("mine\n")
    code, _, err = person.run("import", "cloudflare", "--zone", ZONE, "--write", "zone.yaml")
    assert (code, err) == (1, "zone.yaml: is there already; --force writes over it\n")
    assert file.read_text() == "mine\n"
    assert person.run("import", "cloudflare", "--zone", ZONE, "--write", "zone.yaml", "--force")[0] == 0
    assert file.read_text().startswith("# Mail\n")


def test_the_file_of_a_stack_that_exists_is_left_alone(person: Person) -> None:
    file = person.folder / "desired" / "dns" / "stack.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("mine\n")
    assert person.run("import", "cloudflare", "--zone", ZONE, "--stack", "desired/dns", "--force")[0] == 0
    assert file.read_text() == "mine\n"


def test_what_the_stack_owns_already_needs_no_leave_to_be_adopted(person: Person) -> None:
    person.run("import", "cloudflare", "--zone", ZONE, "--stack", "desired/dns")
    person.run("apply", "--path", "desired", "--yes")
    _, mine, _ = person.run("import", "cloudflare", "--zone", ZONE, "--owner", "dns")
    _, theirs, _ = person.run("import", "cloudflare", "--zone", ZONE, "--owner", "web")
    assert "reconciler/adopt" not in mine
    assert theirs.count("belongs to default/dns") == 12


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say which zone to import, such as --zone example.com"),
        (("--zone", ZONE, "--colour", "red"), "there is no --colour; say which zone"),
        (("--zone", "exa mple"), "is not a host name"),
        (("--zone", "example.net"), "zone example.net is not visible to this token"),
        (("--zone",), "what to import is said as --name value"),
        (("zone", ZONE), "what to import is said as --name value"),
        (("--zone", ZONE, "--target", "elsewhere"), "the settings have no target 'elsewhere'"),
        (("--zone", ZONE, "--write", "a", "--stack", "b"), "give --write or --stack, not both"),
        (("--zone", ZONE, "--owner", "mail", "--stack", "dns"), "so --owner must be dns"),
    ],
)
def test_what_cannot_be_imported_is_said(person: Person, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = person.run("import", "cloudflare", *arguments)
    assert (code, out) == (1, "")
    assert said in err


def test_a_driver_that_cannot_import_names_those_that_can(person: Person) -> None:
    code, _, err = person.run("import", "vault", "--zone", ZONE)
    assert (code, err) == (1, "the driver vault cannot write down what it finds; those that can: cloudflare\n")


def test_a_temporary_trouble_is_waited_out(person: Person) -> None:
    with person.world.fail("server-error", times=1):
        assert person.run("import", "cloudflare", "--zone", ZONE)[0] == 0
