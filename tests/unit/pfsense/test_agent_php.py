"""The program for the firewall, run by a real PHP against stand-ins for pfSense's functions and the recorded configurations."""

import fcntl
import hashlib
import json
import os
import re
import resource
import shutil
import socket
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from reconciler.errors import Conflict, DriverError, Permanent, Transient
from reconciler.resource import JSONObject
from reconciler_pfsense.agent import Program, Snapshot, Used, read_answer, transaction_id
from reconciler_pfsense.emulator.configfile import at, listed, parse
from reconciler_pfsense.emulator.firewall import LISTS, Firewall, Refusal

PHP = shutil.which("php")
SHIM = Path(__file__).parent / "php"
SHARED = Path(os.environ.get("RECONCILER_SHARED", Path(__file__).parents[4] / "shared"))
RECORDED = SHARED / "transcripts" / "pfsense"
CASES = sorted(path.name for path in RECORDED.glob("[0-9]*")) if RECORDED.is_dir() else []
REFUSED = {"07-alias-delete-in-use": "still used by", "11-frontend-missing-backend": "unable to find", "12-bad-advanced": "send-proxy-v3"}

pytestmark = [
    pytest.mark.skipif(PHP is None, reason="php is not installed"),
    pytest.mark.skipif(not CASES, reason="the recordings are not here; set RECONCILER_SHARED"),
]


class Box:
    """A firewall's file system in a folder, and PHP to run on it."""

    def __init__(self, root: Path, config: Any, version: str = "2.8") -> None:
        self.root, self.version = root, version
        for folder in ("conf", "tmp", "run"):
            (root / folder).mkdir()
        self.file = root / "conf" / "config.xml"
        self.file.write_text(json.dumps(config))

    @property
    def config(self) -> Any:
        return json.loads(self.file.read_text())

    @property
    def log(self) -> list[str]:
        path = self.root / "log"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    @staticmethod
    def command(includes: Path = SHIM) -> list[str]:
        return [str(PHP), "-n", "-d", f"include_path={includes}", "-d", "display_errors=1", "-d", "error_reporting=-1"]

    def env(self, fault: str = "") -> dict[str, str]:
        return {"SHIM_ROOT": str(self.root), "SHIM_VERSION": self.version, "SHIM_FAULT": fault, "PATH": "/bin:/usr/bin"}

    def run(self, verb: str, *, fault: str = "", room: int = 0, **request: Any) -> Snapshot:
        return Snapshot.of(self.answer(verb, fault=fault, room=room, **request))

    def answer(
        self,
        verb: str,
        *,
        fault: str = "",
        room: int = 0,
        swapped: Mapping[str, str] | None = None,
        includes: Path = SHIM,
        **request: Any,
    ) -> JSONObject:
        """Run a program. ``room`` is the largest file that it can write, in bytes; ``swapped`` changes texts of the program."""
        program = Program.of(verb, **request)
        script = program.script
        for old, new in (swapped or {}).items():
            script = script.replace(old, new)
        done = subprocess.run(
            self.command(includes),
            input=script,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env=self.env(fault),
            preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))) if room else None,
            restore_signals=not room,
        )
        fatal = "Fatal error" in done.stdout
        assert fatal or "Warning" not in done.stdout, done.stdout
        assert "Deprecated" not in done.stdout, done.stdout
        return read_answer("fw", program, done.stdout, done.returncode)

    def apply(self, edits: list[Any], *, fault: str = "", expect: str = "", gone: Any = (), **flags: bool) -> Snapshot:
        expect = expect or self.run("observe").sha
        return self.run("apply", fault=fault, **request_for(expect, edits, gone, **flags))


def request_for(expect: str, edits: list[Any], gone: Any = (), *, rules: bool = True, haproxy: bool = True) -> dict[str, Any]:
    more = {"gone": list(gone), "filter": rules, "haproxy": haproxy, "lock_seconds": 0, "description": "reconciler test"}
    return {"expect": expect, "transaction": transaction_id(expect, edits), "edits": edits, **more}


def recorded(case: str) -> tuple[Any, Any, list[Any], list[Any]]:
    before, after = (parse((RECORDED / case / name).read_text()) for name in ("before.xml", "after.xml"))
    steps = json.loads((RECORDED / case / "steps.json").read_text())["steps"]
    kinds = {"aliases/alias": "Alias", "installedpackages/haproxy/ha_pools/item": "HAProxyBackend"}
    gone = [{"kind": kinds[step["list"]], "name": step["key"]["name"]} for step in steps if step.get("delete") and step["list"] in kinds]
    return before, after, steps, gone


def content(config: Any) -> Any:
    return {path: listed(config, path) for path in LISTS} | {"settings": at(config, "installedpackages/haproxy/enable")}


@pytest.mark.parametrize("version", ["2.8", "2.7.2"])
@pytest.mark.parametrize("case", CASES)
def test_the_recorded_edits_give_the_recorded_configuration(case: str, version: str, tmp_path: Path) -> None:
    before, after, steps, gone = recorded(case)
    box = Box(tmp_path, before, version)
    if case in REFUSED:
        with pytest.raises(Permanent, match=REFUSED[case]):
            box.apply(steps, gone=gone)
        assert box.config == before
        assert "write_config" not in box.log
    elif case == "21-umlaut-outside-cdata":
        with pytest.raises(Permanent, match="did not keep"):
            box.apply(steps)
        assert content(box.config) == content(before)
    else:
        seen = box.apply(steps, gone=gone)
        assert content(box.config) == content(after)
        assert seen.lists == {path: listed(after, path) for path in LISTS}
        assert not seen.pending


@pytest.mark.parametrize("case", CASES)
def test_the_emulator_does_what_the_program_does(case: str) -> None:
    before, after, steps, gone = recorded(case)
    firewall = Firewall((RECORDED / case / "before.xml").read_text())
    assert firewall.config == before
    request = request_for(firewall.sha, steps, gone)
    if case in REFUSED:
        with pytest.raises(Refusal, match=REFUSED[case]):
            firewall.apply(request)
        assert firewall.config == before
    elif case == "21-umlaut-outside-cdata":
        with pytest.raises(Refusal, match="did not keep"):
            firewall.apply(request)
        assert content(firewall.config) == content(before)
    else:
        firewall.apply(request)
        assert content(firewall.config) == content(after)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path, parse((RECORDED / "05-alias-create" / "after.xml").read_text()))


ALIAS = {"list": "aliases/alias", "key": {"name": "mail_host"}, "set": {"address": "10.0.20.2"}, "unset": []}


def test_another_state_than_expected_is_a_conflict_and_nothing_is_written(box: Box) -> None:
    before = box.config
    with pytest.raises(Conflict, match=r"changed since.*\(system\)"):
        box.apply([ALIAS], expect="0" * 64)
    assert box.config == before


def test_a_write_by_somebody_else_during_the_preparation_is_a_conflict_and_survives(box: Box) -> None:
    with pytest.raises(Conflict, match="being prepared"):
        box.apply([ALIAS], fault="other-admin")
    assert box.config["system"]["hostname"] == "fw2"
    assert "write_config" not in box.log


def test_a_transaction_whose_answer_was_lost_is_not_written_again(box: Box) -> None:
    sha = box.run("observe").sha
    box.apply([ALIAS], expect=sha)
    after = box.config
    box.apply([ALIAS], expect=sha)
    assert box.config == after
    assert box.log.count("write_config") == 1


def test_edits_that_change_nothing_are_not_written(box: Box) -> None:
    edit = {**ALIAS, "set": {"address": "10.0.20.1"}}
    box.apply([edit])
    assert box.log == []


@pytest.mark.parametrize("fault", ["pf-refuses", "port-taken", "lost-write", "stumble"])
@pytest.mark.parametrize("version", ["2.8", "2.7.2"])
def test_what_cannot_be_loaded_or_kept_is_taken_back(fault: str, version: str, tmp_path: Path) -> None:
    before = parse((RECORDED / "05-alias-create" / "after.xml").read_text())
    box = Box(tmp_path, before, version)
    with pytest.raises(DriverError, match="was restored and loaded"):
        box.apply([ALIAS], fault=fault)
    assert content(box.config) == content(before)
    assert box.log[-3:] == ["config_restore", "filter_configure_sync", "haproxy real"]
    assert not box.run("observe").pending


def test_a_rule_that_pf_would_skip_is_taken_back(box: Box) -> None:
    key = {"descr": "new"}
    rule = {"type": "pass", "interface": "lan", "source": {"any": ""}, "destination": {"address": "nobody"}}
    with pytest.raises(Permanent, match="would skip rules: # Unresolvable destination alias 'nobody'"):
        box.apply([{"list": "filter/rule", "key": key, "set": rule, "unset": []}])
    assert not any(rule.get("descr") == "new" for rule in listed(box.config, "filter/rule"))


def test_what_was_saved_but_not_loaded_is_loaded_by_the_next_run(box: Box) -> None:
    (box.root / "conf" / "reconciler-pending").touch()
    assert box.run("observe").pending
    box.apply([{**ALIAS, "set": {"address": "10.0.20.1"}}], rules=False, haproxy=False)
    assert box.log == ["filter_configure_sync", "haproxy real"]
    assert not box.run("observe").pending


def test_what_a_transaction_under_way_has_saved_is_not_taken_for_left_behind(box: Box) -> None:
    (box.root / "conf" / "reconciler-pending").touch()
    with (box.root / "tmp" / "reconciler.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert not box.run("observe").pending
    assert box.run("observe").pending


def test_an_index_is_believed_only_while_the_item_there_is_the_one_that_was_seen(box: Box) -> None:
    with pytest.raises(Conflict, match="no longer what it was"):
        box.apply([{**ALIAS, "at": 0}])
    assert box.apply([{**ALIAS, "at": 2}]).lists["aliases/alias"][2]["address"] == "10.0.20.2"


def test_indexes_stay_true_while_items_are_deleted(box: Box) -> None:
    deletes = [{"list": "nat/rule", "at": index, "key": {}, "delete": True} for index in (0, 1, 4)]
    left = [rule["local-port"] for rule in box.apply(deletes).lists["nat/rule"]]
    assert left == ["587", "993"]


def test_a_booting_firewall_is_not_written_to(box: Box) -> None:
    (box.root / "run" / "booting").touch()
    with pytest.raises(DriverError, match="still booting"):
        box.apply([ALIAS])


def test_snapshots_are_private_and_few(box: Box) -> None:
    for number in range(7):
        box.apply([{**ALIAS, "set": {"address": f"10.0.20.{number + 20}"}}])
    kept = sorted((box.root / "conf").glob("reconciler-before-*.xml"))
    assert len(kept) == 5
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


def test_a_missing_haproxy_package_is_said(tmp_path: Path) -> None:
    config = parse((RECORDED / "05-alias-create" / "after.xml").read_text())
    del config["installedpackages"]["haproxy"]
    box = Box(tmp_path, config)
    assert box.run("observe").settings is None
    with pytest.raises(Permanent, match="not installed"):
        box.apply([ALIAS])


# -- glances ------------------------------------------------------------------------------------------------------------------------


def test_a_glance_says_who_wrote_and_nothing_of_what(box: Box) -> None:
    sha = box.run("observe").sha
    assert box.answer("glance", known=sha) == {"sha": sha}
    box.apply([ALIAS])
    seen = box.answer("glance", known=sha)
    assert sorted(seen) == ["history", "revision", "sha"]
    assert "reconciler test tx:" in seen["revision"]["description"]


def test_a_glance_at_an_unchanged_file_runs_no_code_of_pfsense(box: Box, tmp_path: Path) -> None:
    sha = box.run("observe").sha
    folder = {"/cf/conf": str(box.root / "conf")}
    assert box.answer("glance", swapped=folder, includes=tmp_path / "nowhere", known=sha) == {"sha": sha}
    with pytest.raises(Permanent, match=r"php stopped.*config\.inc"):
        box.answer("glance", swapped=folder, includes=tmp_path / "nowhere", known="0" * 64)


def test_the_history_of_the_firewall_is_told_newest_first(box: Box) -> None:
    (box.root / "conf" / "backup").mkdir()
    kept = 'a:2:{i:1700000005;a:1:{s:11:"description";s:7:"older: ";}i:1700000009;a:1:{s:11:"description";s:7:"newer: ";}}'
    (box.root / "conf" / "backup" / "backup.cache").write_text(kept)
    assert [one["time"] for one in box.run("observe").history] == ["1700000009", "1700000005"]
    (box.root / "conf" / "backup" / "backup.cache").write_text("not serialised")
    assert box.run("observe").history == ()


# -- faults of the machine ----------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_stops_before_anything_is_written(box: Box) -> None:
    before, sha = box.config, box.run("observe").sha
    room = box.file.stat().st_size // 2
    with pytest.raises(Permanent, match="nothing was written; is the disk full"):
        box.run("apply", room=room, **request_for(sha, [ALIAS]))
    assert box.config == before
    assert not list((box.root / "conf").glob("reconciler-*")), "half a copy is no copy"
    assert "write_config" not in box.log


def test_a_lock_file_that_a_dead_run_left_behind_is_no_lock(box: Box) -> None:
    (box.root / "tmp" / "reconciler.lock").touch()
    assert box.apply([ALIAS]).lists["aliases/alias"][2]["address"] == "10.0.20.2"


def test_a_lock_that_a_living_run_holds_is_waited_for_and_then_said(box: Box) -> None:
    before = box.config
    with (box.root / "tmp" / "reconciler.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Transient, match="holds the lock"):
            box.apply([ALIAS])
    assert box.config == before
    box.apply([ALIAS])


def test_haproxy_does_not_inherit_the_lock(box: Box) -> None:
    """The shim leaves a child behind when it reloads, as HAProxy is left behind, and the run ends without letting go of its lock."""
    with pytest.raises(DriverError, match="was restored and loaded"):
        box.apply([ALIAS], fault="daemon")
    child = int((box.root / "daemon").read_text())
    os.kill(child, 0)  # it lives
    box.apply([ALIAS])


def test_a_run_that_dies_between_the_write_and_the_reload_is_brought_to_its_end_by_the_next(box: Box) -> None:
    sha = box.run("observe").sha
    with pytest.raises(Transient, match="whether anything was done is not known"):
        box.apply([ALIAS], fault="dies", expect=sha)
    seen = box.run("observe")
    assert seen.pending
    assert seen.lists["aliases/alias"][2]["address"] == "10.0.20.2", "the new state is saved, whole"
    assert not box.apply([ALIAS], expect=sha).pending
    assert box.log.count("write_config") == 1
    assert box.log[-2:] == ["filter_configure_sync", "haproxy real"]


MAXCONN = {"path": "installedpackages/haproxy", "key": {}, "set": {"maxconn": "77"}, "unset": []}


def test_what_a_dead_run_left_unloaded_is_loaded_whole_by_a_change_of_something_else(box: Box) -> None:
    with pytest.raises(Transient):
        box.apply([MAXCONN], fault="dies")
    box.apply([ALIAS], haproxy=False)
    assert box.log[-2:] == ["filter_configure_sync", "haproxy real"], "the dead run's change of HAProxy is in force as well"
    assert not box.run("observe").pending


def test_what_another_admin_saved_during_the_reload_survives_when_ours_is_taken_back(box: Box) -> None:
    before = box.config
    with pytest.raises(Permanent, match=r"pf refused.*only what this change wrote was taken back.*admin@10\.0\.0\.5 saved meanwhile"):
        box.apply([ALIAS, MAXCONN], fault="late-admin")
    assert box.config["system"]["hostname"] == "fw2"
    assert content(box.config) == content(before)
    assert at(box.config, "installedpackages/haproxy").get("maxconn") == at(before, "installedpackages/haproxy").get("maxconn")
    assert box.log[-2:] == ["filter_configure_sync", "haproxy real"]
    assert not box.run("observe").pending


def test_what_another_admin_saved_in_the_same_list_during_the_reload_is_not_overwritten(box: Box) -> None:
    with pytest.raises(Permanent, match=r"admin@10\.0\.0\.5 changed aliases/alias meanwhile.*stays saved but not loaded"):
        box.apply([ALIAS], fault="late-admin-alias")
    assert [alias["name"] for alias in listed(box.config, "aliases/alias")][-1] == "theirs"
    assert box.run("observe").pending


def test_a_fatal_error_during_the_reload_is_taken_back(box: Box) -> None:
    before = box.config
    with pytest.raises(Permanent, match=r"php: Call to undefined function.*was restored and loaded"):
        box.apply([ALIAS], fault="fatal")
    assert content(box.config) == content(before)
    assert not box.run("observe").pending


# -- the traps of pfSense's functions -----------------------------------------------------------------------------------------------

NEW = {"list": "aliases/alias", "key": {"name": "new_host"}, "set": {"type": "host", "address": "10.0.20.7"}, "unset": []}
NEW_RULE = {
    "list": "filter/rule",
    "key": {"descr": "to new_host"},
    "set": {"type": "pass", "interface": "lan", "source": {"any": ""}, "destination": {"address": "new_host"}},
    "unset": [],
}
AGAIN = "going back failed as well"


def rules_of(box: Box) -> list[str]:
    return (box.root / "tmp" / "rules.debug").read_text().splitlines()


def test_an_alias_counts_for_the_rules_and_the_binds_that_come_with_it(box: Box) -> None:
    bind = {"extaddr": "custom", "extaddr_custom": "new_host", "extaddr_port": "25"}
    listener = {"status": "active", "type": "tcp", "a_extaddr": {"item": [bind]}, "backend_serverpool": ""}
    frontend = {"list": "installedpackages/haproxy/ha_backends/item", "key": {"name": "by_alias"}, "set": listener, "unset": []}
    box.apply([NEW, NEW_RULE, frontend])
    assert "table <new_host>" in rules_of(box)
    assert not [line for line in rules_of(box) if line.startswith("# Unresolvable")]


def test_an_alias_that_was_taken_back_is_in_no_table(box: Box) -> None:
    with pytest.raises(DriverError, match="was restored and loaded"):
        box.apply([NEW, NEW_RULE], fault="pf-refuses")
    assert "table <new_host>" not in rules_of(box)


def test_a_rule_of_somebody_else_that_pf_skipped_before_holds_up_nothing(box: Box) -> None:
    config = box.config
    config["filter"]["rule"].append({"descr": "theirs", "source": {"any": ""}, "destination": {"address": "nobody"}})
    box.file.write_text(json.dumps(config))
    line = "# Unresolvable destination alias 'nobody' for rule 'theirs'"
    (box.root / "tmp" / "rules.debug").write_text(line + "\n")
    assert box.apply([ALIAS]).lists["aliases/alias"][2]["address"] == "10.0.20.2"
    assert line in rules_of(box)


@pytest.mark.parametrize(
    ("fault", "first", "then"),
    [
        ("pf-refuses-always", "pf refused the rules", "pf refused the rules"),
        ("port-taken-always", "cannot bind socket", "cannot bind socket"),
        ("fatal-always", "php: Call to undefined function", "php: Call to undefined function"),
        ("no-restore", "pf refused the rules", "config_restore failed"),
    ],
)
@pytest.mark.parametrize("version", ["2.8", "2.7.2"])
def test_when_the_way_back_fails_as_well_the_copy_to_restore_is_named(
    fault: str, first: str, then: str, version: str, tmp_path: Path
) -> None:
    box = Box(tmp_path, parse((RECORDED / "05-alias-create" / "after.xml").read_text()), version)
    with pytest.raises(DriverError) as caught:
        box.apply([ALIAS], fault=fault)
    why, _, back = str(caught.value).partition(AGAIN)
    (copied,) = (box.root / "conf").glob("reconciler-before-*.xml")
    assert why.count(first) == 1
    assert back.count(then) == 1, "what was said of the first failure is not said again"
    assert back.endswith(f"restore {copied} by hand")
    assert box.run("observe").pending, "it is not in force as it is saved"


def test_the_banner_about_unapplied_changes_goes_with_them(box: Box) -> None:
    banner = box.root / "run" / "haproxy.conf.dirty"
    banner.touch()
    with pytest.raises(DriverError):
        box.apply([ALIAS], fault="port-taken-always")
    assert banner.exists()
    box.apply([{**ALIAS, "set": {"address": "10.0.20.3"}}])
    assert not banner.exists()


def test_a_copy_that_is_not_the_whole_file_is_no_copy(box: Box) -> None:
    sha = box.run("observe").sha
    half = {"@copy(reconciler_file(), $path)": "file_put_contents($path, 'half')"}
    with pytest.raises(Permanent, match="nothing was written"):
        Snapshot.of(box.answer("apply", swapped=half, **request_for(sha, [ALIAS])))
    assert "write_config" not in box.log


def test_the_file_is_believed_and_not_the_copy_that_pfsense_keeps_of_it(box: Box) -> None:
    stale = box.config
    stale["aliases"]["alias"] = []
    (box.root / "tmp" / "config.cache").write_text(json.dumps(stale))
    assert len(box.run("observe").lists["aliases/alias"]) == len(box.config["aliases"]["alias"])


def test_passwords_never_leave_the_firewall(box: Box) -> None:
    config = box.config
    pool = {"name": "theirs", "stats_password": "hunter2", "stats_username": "admin"}
    config["installedpackages"]["haproxy"]["ha_pools"] = {"item": [pool]}
    box.file.write_text(json.dumps(config))
    answer = box.answer("observe")
    assert "hunter2" not in json.dumps(answer)
    assert answer["lists"]["installedpackages/haproxy/ha_pools/item"] == [{"name": "theirs", "stats_username": "admin"}]
    box.apply([ALIAS], haproxy=False)
    assert listed(box.config, "installedpackages/haproxy/ha_pools/item")[0]["stats_password"] == "hunter2"


def test_a_field_that_is_to_go_goes_alone(box: Box) -> None:
    rule = box.run("observe").lists["filter/rule"][0]
    box.apply([{"list": "filter/rule", "at": 0, "key": {"descr": rule["descr"]}, "set": {"disabled": ""}, "unset": []}])
    assert box.config["filter"]["rule"][0] == {**rule, "disabled": ""}
    box.apply([{"list": "filter/rule", "at": 0, "key": {"descr": rule["descr"]}, "set": {}, "unset": ["disabled"]}])
    assert box.config["filter"]["rule"][0] == rule


# -- what is still used --------------------------------------------------------------------------------------------------------------

USED = "used_name"


@pytest.mark.parametrize(
    ("path", "user", "place"),
    [
        ("filter/rule", {"source": {"address": USED}}, "filter rule 1 source"),
        ("filter/rule", {"source": {"any": "", "port": USED}}, "filter rule 1 source"),
        ("nat/rule", {"destination": {"network": "wanip", "port": USED}}, "nat rule 1 destination"),
        ("nat/rule", {"target": USED}, "nat rule 1"),
        ("nat/rule", {"local-port": USED}, "nat rule 1"),
        ("nat/outbound/rule", {"source": {"network": USED}}, "nat outbound rule 1 source"),
        ("nat/outbound/rule", {"sourceport": USED}, "nat outbound rule 1"),
        ("nat/outbound/rule", {"dstport": USED}, "nat outbound rule 1"),
        ("aliases/alias", {"name": "outer", "address": f"10.0.0.1 {USED}"}, r"aliases alias \d \(outer\)"),
        (
            "installedpackages/haproxy/ha_backends/item",
            {"name": "web", "a_extaddr": {"item": [{"extaddr_custom": USED}]}},
            r"ha_backends item 1 a_extaddr item 1 \(web\)",
        ),
        (
            "installedpackages/haproxy/ha_backends/item",
            {"name": "web", "a_extaddr": {"item": [{"extaddr_port": f"25,{USED}"}]}},
            r"ha_backends item 1 a_extaddr item 1 \(web\)",
        ),
        (
            "installedpackages/haproxy/ha_backends/item",
            {"name": "web", "ha_acls": {"item": [{"name": "from", "value": USED}]}},
            r"ha_backends item 1 ha_acls item 1 \(from\)",
        ),
    ],
)
def test_an_alias_stays_while_it_is_used_anywhere_and_the_place_is_named(box: Box, path: str, user: Any, place: str) -> None:
    config = box.config
    config["aliases"]["alias"].append({"name": USED, "type": "host", "address": "10.0.20.9"})
    parent, _, last = path.rpartition("/")
    at_parent = config
    for key in parent.split("/"):
        at_parent[key] = at_parent.get(key) or {}
        at_parent = at_parent[key]
    at_parent[last] = [*(at_parent.get(last) or []), user] if path == "aliases/alias" else [user]
    box.file.write_text(json.dumps(config))
    gone = {"list": "aliases/alias", "key": {"name": USED}, "delete": True}
    with pytest.raises(Used, match=f"Alias {USED} is still used by: .*{place}"):
        box.apply([gone], gone=[{"kind": "Alias", "name": USED}], rules=False, haproxy=False)
    assert box.config == config


@pytest.mark.parametrize("status", ["active", "disabled"])
@pytest.mark.parametrize("user", [{"backend_serverpool": USED}, {"a_actionitems": {"item": [{"use_backendbackend": USED}]}}])
def test_a_backend_stays_while_a_frontend_leads_to_it_even_a_disabled_one(box: Box, user: Any, status: str) -> None:
    config = box.config
    haproxy = config["installedpackages"]["haproxy"]
    haproxy["ha_pools"] = {"item": [{"name": USED}]}
    haproxy["ha_backends"] = {"item": [{"name": "theirs", "status": status, **user}]}
    box.file.write_text(json.dumps(config))
    gone = {"list": "installedpackages/haproxy/ha_pools/item", "key": {"name": USED}, "delete": True}
    with pytest.raises(Used, match=rf"HAProxyBackend {USED} is still used by: frontend \(theirs\)"):
        box.apply([gone], gone=[{"kind": "HAProxyBackend", "name": USED}])
    assert box.config == config


# -- while it runs -------------------------------------------------------------------------------------------------------------------


def test_a_connection_that_goes_during_the_reload_stops_no_transaction(box: Box) -> None:
    """The program is hung up on, and what it prints then goes nowhere."""
    program = Program.of("apply", **request_for(box.run("observe").sha, [ALIAS]))
    nobody, way = os.pipe()
    os.close(nobody)
    done = subprocess.run(
        box.command(), input=program.script.encode(), stdout=way, stderr=way, timeout=20, check=False, env=box.env("hangup")
    )
    os.close(way)
    seen = box.run("observe")
    assert done.returncode >= 0, "a signal ended it"
    assert seen.lists["aliases/alias"][2]["address"] == "10.0.20.2"
    assert not seen.pending
    assert box.log[-2:] == ["filter_configure_sync", "haproxy real"]


def test_what_is_told_was_read_under_the_hash_that_is_told(box: Box) -> None:
    seen = box.run("observe", fault="changes")
    assert seen.lists["aliases/alias"] == []
    assert seen.sha == hashlib.sha256(box.file.read_bytes()).hexdigest()


def test_the_words_of_haproxy_are_told_without_html(box: Box) -> None:
    listener = {"status": "active", "type": "tcp", "backend_serverpool": "nowhere"}
    frontend = {"list": "installedpackages/haproxy/ha_backends/item", "key": {"name": "lost"}, "set": listener, "unset": []}
    words = re.escape(
        "nothing was written: [ALERT]    (103) : config : Proxy 'lost': unable to find required default_backend: 'nowhere_ipvANY'."
    )
    with pytest.raises(Permanent, match=f"{words}$"):
        box.apply([frontend])


def test_the_states_of_the_servers_come_from_the_socket_of_haproxy(box: Box) -> None:
    row = ["mail_ipvANY", "n1", *["0"] * 15, "UP"]
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(box.root / "tmp" / "haproxy.socket"))
        server.listen()
        server.settimeout(10)

        def answer() -> None:
            client, _ = server.accept()
            with client:
                assert client.recv(100) == b"show stat\n"
                client.sendall(b"# pxname,svname\n" + ",".join(row).encode() + b",\n\n")

        thread = Thread(target=answer, daemon=True)
        thread.start()
        seen = box.run("observe")
        thread.join()
    assert seen.stats == {"mail_ipvANY/n1": "UP"}
    (box.root / "tmp" / "haproxy.socket").unlink()
    assert box.run("observe").stats is None
