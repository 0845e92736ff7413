"""New settings under a daemon that runs: what changes, what goes on, and what is refused."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import yaml

from reconciler.compose import Workshop
from reconciler.daemon import cards
from reconciler.daemon.farewell import say
from reconciler.daemon.incidents import Found, Part, Sort
from reconciler.daemon.loop import Daemon
from reconciler.daemon.recording import recorder
from reconciler.daemon.reload import Reloader
from reconciler.daemon.service import daemon
from reconciler.daemon.statuses import unshown
from reconciler.driver import Observation, Outcome
from reconciler.errors import ReconcilerError, StoreError
from reconciler.notify.slack import SlackSink
from reconciler.plan import Plan
from reconciler.registry import Catalog
from reconciler.report import Report, Verdict
from reconciler.settings import Settings, load_settings
from reconciler.state import Store
from reconciler.targets import Targets
from tests.unit.core.memory import CATALOG, NOW
from tests.unit.daemon.house import Hand, commit
from tests.unit.test_source import Upstream

CANARY = "t0ken-c4n4ry"
RECORD = """
apiVersion: cloudflare/v1
kind: DNSRecord
metadata: {name: www}
spec: {zone: example.org, name: www.example.org, type: A, content: 192.0.2.1}
"""


class Place:
    """A settings file, what it names, and a daemon that was started with it; no thread runs."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.folder, self.file = folder, folder / "reconciler.yaml"
        self.token = folder / "token"
        self.token.write_text(CANARY)
        self.upstream = Upstream(folder / "upstream")
        self.settings: dict[str, Any] = {
            "instance": "home",
            "repository": {"url": self.upstream.url},
            "state": {"path": str(folder / "state.db")},
            "targets": {
                "cloudflare": {"token": f"file:{self.token}", "zones": {"example.org": ""}},
                "uptime-kuma": {"url": "https://status.example.org", "username": "bot", "password": "fixed"},
            },
        }
        self.write(**sections)
        self.store = Store(folder / "state.db", news=recorder(load_settings(self.file)))
        self.daemon: Daemon = daemon(load_settings(self.file), self.store)
        self.reloader = Reloader(self.daemon, self.file)

    def write(self, **sections: Any) -> None:
        self.settings |= sections
        self.file.write_text(yaml.safe_dump(self.settings))

    @property
    def now(self) -> Settings:
        return self.daemon.workshop.settings


@pytest.fixture
def place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Place]:
    caplog.set_level(logging.INFO, logger="reconciler")  # which a command may have made quiet
    made = Place(tmp_path)
    yield made
    made.store.close()
    assert CANARY not in caplog.text


class TestTaking:
    def test_nothing_is_done_while_nothing_changes(self, place: Place) -> None:
        before = place.now
        assert not place.reloader.turn()
        assert place.now is before

    def test_what_changed_is_named_and_never_shown(self, place: Place, caplog: pytest.LogCaptureFixture) -> None:
        place.token.write_text(f"{CANARY}-2")
        place.write(engine={"attempts": 7})
        assert place.reloader.turn()
        assert place.now.targets["cloudflare"]["token"] == f"{CANARY}-2"
        assert place.now.engine.attempts == 7
        assert "the settings were read anew: engine.attempts, targets.cloudflare.token" in caplog.text
        assert not place.reloader.turn(), "once is enough"

    def test_a_key_file_that_was_exchanged_counts_though_the_settings_are_the_same(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        key = place.folder / "key"
        key.write_text("one")
        place.write(targets={"pfsense": {"host": "192.0.2.1", "private_key_file": str(key), "known_hosts": str(key)}})
        assert place.reloader.turn()
        key.write_text("two")
        assert place.reloader.turn()
        assert "targets.pfsense.known_hosts, targets.pfsense.private_key_file" in caplog.text

    def test_the_database_that_the_settings_name_is_not_watched(self, place: Place) -> None:
        (place.folder / "state.db").write_bytes(b"another run was recorded")
        assert not place.reloader.turn()

    def test_what_needs_a_restart_stays_and_is_said(self, place: Place, caplog: pytest.LogCaptureFixture) -> None:
        place.write(instance="office", engine={"attempts": 9})
        assert place.reloader.turn()
        assert (place.now.instance, place.now.engine.attempts) == ("home", 9)
        assert "after a restart only: instance" in caplog.text

    def test_people_are_told_by_the_new_way(self, place: Place) -> None:
        place.write(notify={"slack_webhook": "https://hooks.example.org/x"})
        assert place.reloader.turn()
        assert isinstance(place.daemon.outbox.sink, SlackSink)
        assert place.daemon.outbox.pace > 1

    def test_links_lead_where_the_new_settings_say(self, place: Place) -> None:
        place.write(notify={"link": "https://new.example.org/{stack}"})
        assert place.reloader.turn()
        assert place.daemon.outbox.address(Part(run=1), "mail") == "https://new.example.org/mail"

    def test_a_forge_that_is_new_is_owed_a_status_by_the_next_commit(self, place: Place) -> None:
        owed = Report("mail", "a" * 40, "a commit", Verdict.CONVERGED, NOW, NOW, Plan("mail", "").sealed(), Plan("mail", "").sealed())
        place.store.record(owed, {})
        with place.store.transaction() as connection:
            assert not list(unshown(connection)), "there is nobody to tell"
        forge = {"kind": "github", "url": "https://api.example.org", "token": "t", "repository": "me/infra"}
        place.write(forge=forge)
        assert place.reloader.turn()
        place.store.record(owed, {})
        with place.store.transaction() as connection:
            assert [one.stack for one in unshown(connection)] == ["mail"]

    def test_a_repository_that_was_taken_out_while_nobody_ran_is_told_of_at_the_start_once(self, place: Place) -> None:
        two = {"mail": {"url": place.upstream.url}, "web": {"url": place.upstream.url}}
        place.write(repository={}, repositories=two)
        place.store.close()
        store = Store(place.folder / "state.db", news=cards.record)
        before = daemon(load_settings(place.file), store)
        before.owners.claim("shop", replace(commit("c1", shop=RECORD), source="web"))
        with store.transaction() as connection:
            cards.tell(connection, "shop", [Found("held:shop", Sort.HELD, Part("waits", {"a": "a"}))], [Sort.HELD], NOW)
        place.write(repositories={"mail": two["mail"]})
        for _ in range(2):
            daemon(load_settings(place.file), store)
        with store.transaction() as connection:
            left = {one.key: one for one in cards.known(connection, NOW, ["left:repository web"])}
            (row,) = [one for one in cards.unshown(connection) if one.incident.key == "left:repository web"]
        assert left["left:repository web"].parts["repository web"].items == {"shop": "shop"}
        assert row.incident.times == 1
        assert not left["held:shop"].open, "what was open about it is over"
        place.store = store

    def test_a_repository_that_was_taken_out_is_told_of_in_the_log_when_the_store_cannot_be_written(
        self, place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full() -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(place.store, "transaction", full)
        say(place.store, "web", ["shop"], NOW)
        assert "repository web is followed no more, nothing is deleted of: shop" in caplog.text
        assert "the disk is full" in caplog.text

    def test_a_signal_reads_them_though_nothing_changed(self, place: Place, caplog: pytest.LogCaptureFixture) -> None:
        assert not place.reloader.turn(asked=True)
        assert "the settings were read anew: nothing changed" in caplog.text


class TestRefusing:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("instance: [", "expected the node content"),
            ("instanse: home", "instanse: is not a setting"),
            ("targets: {cloudflare: {tokn: x}}", "targets.cloudflare: target of driver cloudflare: token: field required"),
            ("targets: {cloudfare: {}}", "targets.cloudfare: there is no driver 'cloudfare'"),
            ("repository: {url: 'http://example.org/x'}", "repository: http://example.org/x: the address must begin with"),
            ("{}", "there is nothing to watch any more"),
        ],
    )
    def test_broken_settings_change_nothing_and_are_reported_once(
        self, place: Place, caplog: pytest.LogCaptureFixture, text: str, said: str
    ) -> None:
        before = place.now
        place.file.write_text(text)
        assert not place.reloader.turn()
        assert not place.reloader.turn()
        assert place.now is before
        assert caplog.text.count("the settings stay as they were") == 1
        assert said in caplog.text
        [run] = place.store.runs("settings")
        assert run["verdict"] == "rejected"
        place.write()
        assert not place.reloader.turn(), "they are as they were"
        assert place.store.runs("settings", most=1)[0]["verdict"] == "converged"

    def test_a_credential_that_is_gone_is_named(self, place: Place, caplog: pytest.LogCaptureFixture) -> None:
        place.token.unlink()
        assert not place.reloader.turn()
        assert f"targets.cloudflare.token: {place.token} cannot be read" in caplog.text
        assert place.now.targets["cloudflare"]["token"] == CANARY
        place.token.write_text(f"{CANARY}-2")
        assert place.reloader.turn()


class TestRepositories:
    def test_a_new_one_is_followed_and_those_that_are_the_same_go_on(self, place: Place) -> None:
        from reconciler.daemon.heads import Heads

        head = place.daemon.head
        assert isinstance(head, Heads)
        [before] = head.pairs().values()
        other = Upstream(place.folder / "other")
        place.write(repositories={"other": {"url": other.url, "poll": 5}})
        assert place.reloader.turn()
        assert head.pairs()["repository"] == before
        assert set(head.pairs()) == {"repository", "other"}
        place.write(repositories={"other": {"url": other.url, "poll": 5, "branch": "next"}})
        other_before = head.pairs()["other"]
        assert place.reloader.turn()
        assert head.pairs()["repository"] == before
        assert head.pairs()["other"] != other_before

    def test_one_that_is_taken_out_is_followed_no_more_and_nothing_of_it_is_in_force(self, place: Place) -> None:
        other = Upstream(place.folder / "other")
        place.write(repositories={"other": {"url": other.url}})
        assert place.reloader.turn()
        place.daemon.accept(replace(commit("c1", web=RECORD), source="other"))
        assert set(place.daemon.force) == {"web"}
        place.write(repositories={})
        assert place.reloader.turn()
        assert not place.daemon.force


class Wire:
    """A driver that only knows whether it was closed."""

    def __init__(self, config: Any) -> None:
        self.config, self.closed = config, False

    def observe(self, wanted: Any, scope: Any) -> list[Observation]:
        return []

    def apply(self, changes: Any, scope: Any) -> list[Outcome]:
        return []

    def close(self) -> None:
        self.closed = True


class TestConnections:
    @pytest.fixture
    def wires(self, monkeypatch: pytest.MonkeyPatch) -> Catalog:
        monkeypatch.setattr("reconciler.targets.open_target", lambda plugin, config: Wire(config))
        return CATALOG

    def test_only_those_whose_settings_changed_are_closed(self, wires: Catalog, tmp_path: Path) -> None:
        key = tmp_path / "key"
        key.write_text("one")
        configs = {name: {"driver": "mem", "key": str(key) if name == "b" else name} for name in ("a", "b", "c")}
        targets = Targets(configs, wires)
        before = {name: targets.get(name) for name in configs}
        assert targets.renew({name: dict(one) for name, one in configs.items()}) == []
        key.write_text("two")
        assert targets.renew({**configs, "c": {"driver": "mem", "key": "other"}}) == ["b", "c"]
        assert targets.get("a") is before["a"]
        assert targets.get("b") is not before["b"]
        assert [one.closed for one in before.values()] == [False, True, True]  # type: ignore[attr-defined]
        assert targets.renew({"a": configs["a"]}) == ["b"]
        assert targets.names() == ["a"]

    def test_a_worker_takes_new_settings_between_two_passes(self, wires: Catalog, tmp_path: Path) -> None:
        settings = Settings(targets={"a": {"driver": "mem"}, "b": {"driver": "mem"}}, engine={"attempts": 2})
        workshop = Workshop(settings, stop=Event(), kinds=wires)
        with workshop.engine() as engine:
            assert workshop.renewed(engine) is engine
            a, b = engine.observer.targets.get("a"), engine.observer.targets.get("b")
            workshop.settings = Settings(targets={"a": {"driver": "mem"}, "b": {"driver": "mem", "x": 1}}, engine={"attempts": 5})
            engine = workshop.renewed(engine)
            assert engine.retry.settings.attempts == engine.observer.retry.settings.attempts == 5
            assert engine.observer.targets.get("a") is a
            assert engine.observer.targets.get("b") is not b
            assert workshop.renewed(engine) is engine


def test_a_daemon_whose_settings_are_followed_no_more_ends_so_that_a_supervisor_starts_it_afresh(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    monkeypatch.setattr(Reloader, "_events", lambda *_: (_ for _ in ()).throw(OSError("too many open files")))
    head = Hand()
    head.wait = lambda stop: stop.wait() and None
    place.daemon.head = head
    place.reloader.attend()
    with pytest.raises(ReconcilerError, match="the settings thread died"):
        place.daemon.run()
    assert [one.exc_type for one in died] == [OSError]
