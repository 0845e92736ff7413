"""The emulated Uptime Kuma, held against recordings of the real 2.5.3 and 1.23.17, and its traps seen by a client that is not ours."""

import ast
import asyncio
import base64
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import socketio
from uptime_kuma_world import serving

from reconciler.resource import JSONObject
from reconciler_uptime_kuma.emulator import UptimeKumaEmulator

RECORDINGS = Path(os.environ.get("RECONCILER_SHARED", Path(__file__).parents[2].parent / "shared")) / "transcripts" / "uptime-kuma"
VERSIONS = {"2.x": "2.5.3", "1.23": "1.23.17"}
LOGIN = {"username": "admin", "password": "adminpass1", "token": ""}
TIMED = frozenset({"heartbeat", "avgPing", "uptime", "maintenanceList", "importantHeartbeatList"})
"""Pushes whose moment depends on how long a check takes."""

TOLD = frozenset({"updateMonitorIntoList", "deleteMonitorFromList", "monitorList", "notificationList"})
"""Pushes that tell of a write; the tour made others, too, with calls that are left out here."""

dialects = pytest.mark.parametrize("dialect", ["2.x", "1.23"])
recorded = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="there are no recordings of a real server beside the repository")

Answer: TypeAlias = tuple[list[str], Any]
"""What was pushed since the answer before, and the answer."""


class Stranger:
    """A client that shares nothing with ours but the library, and keeps the order of what it receives."""

    def __init__(self) -> None:
        self.socket = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        self.seen: list[str] = []
        self.info: list[JSONObject] = []
        self.monitors: JSONObject = {}
        self.socket.on("*", lambda event, *args: self.seen.append(event))
        self.socket.on("info", self._on_info)
        self.socket.on("monitorList", self._on_list)

    def _on_info(self, info: JSONObject) -> None:
        self.seen.append("info")
        self.info.append(info)

    def _on_list(self, monitors: JSONObject) -> None:
        self.seen.append("monitorList")
        self.monitors = monitors

    async def call(self, event: str, *args: Any, timeout: float = 3) -> Answer:
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        pushes = self.seen

        def answer(*values: Any) -> None:
            answered.set_result((list(pushes), values[0] if values else None))
            pushes.clear()

        await self.socket.emit(event, args, callback=answer)
        return await asyncio.wait_for(answered, timeout)

    async def until(self, event: str) -> None:
        async with asyncio.timeout(3):
            while event not in self.seen:
                await asyncio.sleep(0.002)


def visit(emulator: UptimeKumaEmulator, work: Any, *, login: bool = True) -> Any:
    """Run ``work(client)`` on a new connection."""

    async def run() -> Any:
        client = Stranger()
        await client.socket.connect(emulator.url, transports=["websocket"])
        try:
            await client.until("info")
            if login:
                await client.call("login", LOGIN)
                await client.until("initServerTimezone") if not emulator.store.dialect.modern else None
                client.seen.clear()
            return await work(client)
        finally:
            await client.socket.disconnect()

    return asyncio.run(run())


def steps(dialect: str, file: str) -> list[tuple[str, list[str], Any]]:
    """Read a recording: for each call its text, the pushes since the answer before, and its answer where it was not cut."""
    found: list[tuple[str, list[str], Any]] = []
    pushes: list[str] = []
    for line in (RECORDINGS / f"{file}-{VERSIONS[dialect]}.txt").read_text().splitlines():
        if push := re.match(r"\s+[\d.]+ (?:A)?<- (\w+) ", line):
            pushes.append(push[1])
        elif call := re.match(r"\s*[\d.]+ -> (.*) ack [\d.]+ms = (.*)$", line):
            try:
                answer = json.loads(call[2])
            except ValueError:
                answer = None
            found.append((call[1], [event for event in pushes if event not in TIMED], answer))
            pushes = []
    return found


def monitor(dialect: str, type: str, name: str, **fields: Any) -> JSONObject:
    row = {
        "type": type,
        "name": name,
        "interval": 60,
        "retryInterval": 60,
        "resendInterval": 0,
        "maxretries": 0,
        "notificationIDList": {},
        "accepted_statuscodes": ["200-299"],
        "upsideDown": False,
        "parent": None,
        "description": None,
    }
    return {**row, **({"conditions": []} if dialect == "2.x" else {}), **fields}


HOOK = {"name": "hook", "type": "webhook", "webhookURL": "http://127.0.0.1:9/x", "webhookContentType": "json"}


def tour(dialect: str) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """The calls of the recorded tour that the emulator knows: the beginning of each call's text, the event, the arguments."""
    port = {"hostname": "127.0.0.1", "port": 9}
    yield 'addNotification({"name": "hook", "type"', "addNotification", ({**HOOK, "isDefault": False, "applyExisting": False}, None)
    yield 'addNotification({"name": "hook", "type"', "addNotification", (HOOK, None)
    yield 'addNotification({"name": "hook2", "type"', "addNotification", ({**HOOK, "name": "hook2"}, 1)
    yield 'addNotification({"name": "hook2"}, 4242)', "addNotification", ({"name": "hook2"}, 4242)
    yield 'add({"type": "port", "name": "tcp"', "add", (monitor(dialect, "port", "tcp", **port, notificationIDList={"1": True}),)
    yield 'add({"type": "http", "name": "web"', "add", (monitor(dialect, "http", "web", url="http://127.0.0.1:3201/"),)
    yield 'add({"type": "push", "name": "push"', "add", (monitor(dialect, "push", "push", pushToken="tok"),)
    yield 'add({"type": "push", "name": "push-notoken"', "add", (monitor(dialect, "push", "push-notoken"),)
    yield 'add({"type": "group", "name": "grp"', "add", (monitor(dialect, "group", "grp"),)
    yield 'add({"type": "port", "name": "child"', "add", (monitor(dialect, "port", "child", **port, parent=5),)
    partial = {"id": 1, "name": "tcp-renamed", "accepted_statuscodes": ["200-299"]}
    yield 'editMonitor({"id": 1, "name": "tcp-renamed"', "editMonitor", (partial,)
    yield 'editMonitor({"id": 1, "name": "nope"})', "editMonitor", ({"id": 1, "name": "nope"},)
    yield 'editMonitor({"type": "port", "name": "tcp"', "editMonitor", (monitor(dialect, "port", "tcp", **port, id=1, description="desc1"),)
    yield 'editMonitor({"type": "port", "name": "x"', "editMonitor", (monitor(dialect, "port", "x", **port, id=4242),)
    yield 'editMonitor({"id": 5, "name": "grp"', "editMonitor", (monitor(dialect, "group", "grp", id=5, parent=6),)
    yield 'add({"type": "port", "name": "HIJACK"', "add", (monitor(dialect, "port", "HIJACK", **port, id=2),)
    for event, id in (
        ("pause", 1),
        ("pause", 1),
        ("resume", 1),
        ("resume", 1),
        ("pause", 99999),
        ("resume", 99999),
        ("pause", 5),
        ("resume", 5),
    ):
        yield f"{event}Monitor({id})", f"{event}Monitor", (id,)
    for tag in (
        {"name": "managed", "color": "#059669"},
        {"name": "managed", "color": "#059669"},
        {"name": None, "color": "#000"},
        {"name": "x"},
    ):
        yield f"addTag({json.dumps(tag)})", "addTag", (tag,)
    for args in ((1, 1, "owner=abc"), (1, 1, "owner=abc"), (1, 1, ""), (1, 1, None), (99999, 1, "v"), (1, 99999, "v")):
        yield f"addMonitorTag({json.dumps(args)[1:-1]})", "addMonitorTag", args
    yield 'editMonitorTag(1, 1, "owner=zzz")', "editMonitorTag", (1, 1, "owner=zzz")
    yield 'deleteMonitorTag(1, 1, "nosuch")', "deleteMonitorTag", (1, 1, "nosuch")
    yield 'deleteMonitorTag(1, 1, "owner=zzz")', "deleteMonitorTag", (1, 1, "owner=zzz")
    yield 'addMonitorTag(2, 1, "v2")', "addMonitorTag", (2, 1, "v2")
    renamed = {"id": 2, "name": "renamed", "color": "#fff"}
    yield f"editTag({json.dumps(renamed)})", "editTag", (renamed,)
    yield "getTags()", "getTags", ()
    yield "deleteTag(2)", "deleteTag", (2,)
    yield "deleteTag(4242)", "deleteTag", (4242,)
    yield from planned(dialect)
    for id in (6, 6, 99999):
        yield f"deleteMonitor({id})", "deleteMonitor", (id,)
    yield 'add({"type": "port", "name": "child3"', "add", (monitor(dialect, "port", "child3", **port, parent=5),)
    yield "deleteMonitor(5)", "deleteMonitor", (5,)
    if dialect == "2.x":
        yield 'add({"type": "group", "name": "grp2"', "add", (monitor(dialect, "group", "grp2"),)
        yield 'add({"type": "port", "name": "c3"', "add", (monitor(dialect, "port", "c3", **port, parent=8),)
        yield "deleteMonitor(8, true)", "deleteMonitor", (8, True)
        yield "getMonitor(9)", "getMonitor", (9,)
    yield "deleteNotification(1)", "deleteNotification", (1,)
    yield "deleteNotification(1)", "deleteNotification", (1,)
    yield 'deleteStatusPage("my-page")', "deleteStatusPage", ("my-page",)
    yield 'deleteStatusPage("my-page")', "deleteStatusPage", ("my-page",)
    yield "getMonitorList()", "getMonitorList", ()


def planned(dialect: str) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """The part of the tour that is about status pages, maintenances, proxies and Docker hosts."""
    yield 'addStatusPage("Title", "My-Page")', "addStatusPage", ("Title", "My-Page")
    yield 'addStatusPage("Title", "my-page")', "addStatusPage", ("Title", "my-page")
    yield 'addStatusPage("Title", "bad slug!")', "addStatusPage", ("Title", "bad slug!")
    yield 'getStatusPage("my-page")', "getStatusPage", ("my-page",)
    more = {"analyticsType": None, "autoRefreshInterval": 300} if dialect == "2.x" else {"googleAnalyticsId": None}
    config = {"slug": "my-page", "title": "Title", "theme": "auto", "showTags": False, "domainNameList": [], **more}
    good, bad = {"name": "G1", "monitorList": [{"id": 1}]}, {"name": "G2", "monitorList": [{"id": 1}, {"id": 99999}]}
    yield 'saveStatusPage("my-page"', "saveStatusPage", ("my-page", config, "/icon.svg", [good])
    yield 'saveStatusPage("my-page"', "saveStatusPage", ("my-page", config, "/icon.svg", [{**good, "id": 1}, bad])
    two, three = {"hours": 2, "minutes": 0}, {"hours": 3, "minutes": 0}
    maintenance = {"title": "m1", "description": "", "strategy": "manual", "active": True, "intervalDay": 1, "dateRange": [None, None]}
    maintenance |= {"timeRange": [two, three], "weekdays": [], "daysOfMonth": [], "timezoneOption": None, "cron": "", "durationMinutes": 60}
    yield 'addMaintenance({"title": "m1"', "addMaintenance", (maintenance,)
    yield 'addMonitorMaintenance(1, [{"id": 1}])', "addMonitorMaintenance", (1, [{"id": 1}])
    yield "getMonitorMaintenance(1)", "getMonitorMaintenance", (1,)
    yield "getMaintenance(1)", "getMaintenance", (1,)
    yield "getMaintenanceList()", "getMaintenanceList", ()
    yield "pauseMaintenance(1)", "pauseMaintenance", (1,)
    yield "deleteMaintenance(1)", "deleteMaintenance", (1,)
    proxy = {"protocol": "http", "host": "127.0.0.1", "port": 3128, "auth": False, "username": "", "password": "", "active": True}
    yield 'addProxy({"protocol": "http"', "addProxy", ({**proxy, "default": False, "applyExisting": False}, None)
    yield (
        'addDockerHost({"name": "d"',
        "addDockerHost",
        ({"name": "d", "dockerDaemon": "/var/run/docker.sock", "dockerType": "socket"}, None),
    )


@recorded
@dialects
def test_the_recorded_tour_gets_the_same_answers_and_pushes_in_the_same_order(dialect: str) -> None:
    recording = iter(steps(dialect, "out2"))
    known = [(text, pushes, answer) for start, _, _ in tour(dialect) for text, pushes, answer in [_next(recording, start)]]

    async def run(client: Stranger) -> list[Answer]:
        return [await client.call(event, *args) for _, event, args in tour(dialect)]

    with serving(dialect=dialect) as emulator:
        mine = visit(emulator, run)
    for (text, pushes, answer), (my_pushes, my_answer) in zip(known, mine, strict=True):
        assert my_answer == answer, text
        if _comparable(dialect, text):
            assert [event for event in my_pushes if event in TOLD] == [event for event in pushes if event in TOLD], text


def _next(recording: Iterator[tuple[str, list[str], Any]], start: str) -> tuple[str, list[str], Any]:
    for step in recording:
        if step[0].startswith(start):
            return step
    raise AssertionError(f"{start} is not in the recording, or not in this order")


def _comparable(dialect: str, text: str) -> bool:
    """Leave out calls whose pushes in the recording come from skipped calls or another client's login."""
    skipped = (
        "addNotification",
        "pauseMonitor(1)",
        "addTag",
        "editMonitor",
        "deleteNotification",
        "getMonitorList",
        "addMonitorTag(2",
        "deleteMonitor",
    )
    if text.startswith(skipped):
        return dialect == "2.x" and text.startswith(("deleteMonitor", "pauseMonitor"))
    return not text.startswith(("add(", "resumeMonitor(5", "pauseMonitor(5")) or dialect == "2.x"


@recorded
@dialects
def test_an_add_is_refused_with_the_databases_own_words(dialect: str) -> None:
    recording = iter(steps(dialect, "out1"))
    names = [
        "unk",
        "i1",
        "i2",
        None,
        "codes",
        "portstr",
        "portbad",
        "nohost",
        "badtype",
        "badnotif",
        "badparent",
        *(["x" * 200] if dialect == "2.x" else []),  # 1.23 shortens a long value in its complaint
        "min3",
        "withtags",
    ]
    base = {
        **monitor("2.x", "port", ""),
        "hostname": "127.0.0.1",
        "port": 9,
        "description": "managed-by: x",
        "kafkaProducerBrokers": [],
        "kafkaProducerSaslOptions": {"mechanism": "None"},
        "rabbitmqNodes": [],
    }
    base.pop("parent")
    special: dict[Any, JSONObject] = {
        "unk": {"bogus_field": 1},
        "i1": {"interval": 5},
        "i2": {"retryInterval": 0},
        "codes": {"accepted_statuscodes": [200]},
        "portstr": {"port": "9"},
        "portbad": {"port": "abc"},
        "nohost": {"hostname": None},
        "badtype": {"type": "nosuchtype"},
        "badnotif": {"notificationIDList": {"9999": True}},
        "badparent": {"parent": 9999},
        "withtags": {"tags": []},
    }

    async def run(client: Stranger) -> list[Any]:
        return [(await client.call("add", {**base, "name": name, **special.get(name, {})}))[1] for name in names]

    with serving(dialect=dialect) as emulator:
        if dialect == "2.x":
            emulator.store.next_id("monitor", 2)
        mine = visit(emulator, run)
    for name, answer in zip(names, mine, strict=True):
        type = special.get(name, {}).get("type", "port")
        _, _, known = _next(recording, f'add({{"type": "{type}", "name": {json.dumps(name)}'[:120])
        assert answer == known, name


@recorded
@dialects
def test_malformed_calls_are_answered_or_not_as_recorded(dialect: str) -> None:
    lines = (RECORDINGS / f"out3-{VERSIONS[dialect]}.txt").read_text().partition("## bad calls")[2].partition("  alive?")[0]
    calls = [match.groups() for match in re.finditer(r"^   (\w+) (\(.*\)) -> (.*)$", lines, re.MULTILINE)]
    assert len(calls) == 10

    async def run(client: Stranger) -> None:
        for event, args, known in calls:
            if known.startswith("NO ACK"):
                with pytest.raises(TimeoutError):
                    await client.call(event, *ast.literal_eval(args), timeout=0.15)
            else:
                assert (await client.call(event, *ast.literal_eval(args)))[1] == ast.literal_eval(known), (event, args)

    with serving(dialect=dialect) as emulator:
        visit(emulator, run)


@recorded
@dialects
def test_a_monitor_has_the_recorded_fields_and_defaults(dialect: str) -> None:
    known = json.loads((RECORDINGS / f"mon-{VERSIONS[dialect]}.json").read_text())
    row = {
        key: known[key]
        for key in ("id", "name", "description", "hostname", "port", "type", "interval", "retryInterval", "accepted_statuscodes")
    }
    tagged = known["tags"]

    async def run(client: Stranger) -> Any:
        return (await client.call("getMonitor", known["id"]))[1]["monitor"]

    with serving(dialect=dialect, monitors=[row]) as emulator:
        assert visit(emulator, run) == {**known, "tags": []}
    assert all(set(tag) == {"id", "tag_id", "monitor_id", "value", "name", "color"} for tag in tagged)


@recorded
@dialects
def test_a_login_is_answered_at_the_recorded_moment(dialect: str) -> None:
    recording = iter(steps(dialect, "out2"))
    _, pushes, answer = _next(recording, "login(")

    async def run(client: Stranger) -> Answer:
        if dialect == "2.x":
            await client.until("loginRequired")
        client.seen.clear()
        return await client.call("login", LOGIN)

    with serving(dialect=dialect) as emulator:
        my_pushes, my_answer = visit(emulator, run, login=False)
    assert [event for event in my_pushes if event not in TIMED] == pushes
    assert set(my_answer) == set(answer)


@recorded
@dialects
def test_values_come_back_as_recorded(dialect: str) -> None:
    lines = (RECORDINGS / f"out3-{VERSIONS[dialect]}.txt").read_text().partition("## roundtrip coercions")[2].partition("  defaults")[0]
    kept, refused = [], []
    for line in lines.splitlines():
        given, _, answer = line.strip().removesuffix("<== CHANGED").strip().partition(" -> ")
        if given.endswith("}"):  # some are cut in the recording
            (refused if answer else kept).append((ast.literal_eval(given), ast.literal_eval(answer) if answer else None))
    assert len(kept) > 5

    async def run(client: Stranger) -> None:
        for pairs, _ in kept:
            row = {**monitor(dialect, pairs.get("type", ("port",))[0], "x"), **{key: given for key, (given, _) in pairs.items()}}
            id = (await client.call("add", row))[1]["monitorID"]
            back = (await client.call("getMonitor", id))[1]["monitor"]
            assert {key: back[key] for key in pairs} == {key: known for key, (_, known) in pairs.items()}
        for row, known in refused:
            mine = (await client.call("add", {**monitor(dialect, "port", "x"), **row}))[1]
            if "Unexpected token" not in known.get("msg", ""):  # the words of one JSON reader
                assert mine == known
            assert mine["ok"] is known["ok"]

    with serving(dialect=dialect) as emulator:
        visit(emulator, run)


@recorded
@dialects
def test_without_a_login_everything_is_pushed_at_once_as_recorded(dialect: str) -> None:
    text = (RECORDINGS / f"out3-{VERSIONS[dialect]}.txt").read_text().partition("## disableAuth")[2]
    known = ast.literal_eval(re.search(r"events on connect: (\[.*\])", text)[1])  # type: ignore[index]  # the recording has it

    async def run(client: Stranger) -> list[str]:
        await client.until("autoLogin")
        await client.until("initServerTimezone")
        seen = list(client.seen)
        assert (await client.call("getTags"))[1]["ok"] is True
        return seen

    with serving(dialect=dialect, auth=False) as emulator:
        mine = visit(emulator, run, login=False)
    each = TIMED | {"heartbeatList"}  # one for each monitor, of which there is none here
    told = [event for event in known if event not in each]
    assert [event for event in mine if event not in each][: len(told)] == told


class TestTraps:
    def test_a_call_before_the_first_info_of_2x_is_lost(self) -> None:
        async def run() -> None:
            client = Stranger()
            await client.socket.connect(emulator.url, transports=["websocket"])
            with pytest.raises(TimeoutError):
                await client.call("needSetup", timeout=0.6)
            await client.until("info")
            assert (await client.call("needSetup"))[1] is False
            await client.socket.disconnect()

        with serving() as emulator:
            emulator.knobs.deaf = 0.5
            asyncio.run(run())

    @dialects
    def test_being_its_own_parent_wedges_the_server_until_it_is_undone(self, dialect: str) -> None:
        async def run(client: Stranger) -> None:
            row = monitor(dialect, "group", "a")
            await client.call("add", row)
            for event, args in (("editMonitor", ({**row, "id": 1, "parent": 1},)), ("getMonitorList", ())):
                with pytest.raises(TimeoutError):
                    await client.call(event, *args, timeout=0.1)
            await client.call("editMonitor", {**row, "id": 1, "parent": None})
            assert (await client.call("getMonitorList"))[1] == {"ok": True}

        with serving(dialect=dialect) as emulator:
            visit(emulator, run)

    def test_an_add_with_an_unknown_notification_is_refused_and_stored(self) -> None:
        async def run(client: Stranger) -> None:
            _, answer = await client.call("add", monitor("2.x", "port", "orphan", hostname="h", port=1, notificationIDList={"9": True}))
            assert "FOREIGN KEY" in answer["msg"]
            await client.call("getMonitorList")
            assert client.monitors["1"]["name"] == "orphan"

        with serving() as emulator:
            visit(emulator, run)
            assert not emulator.snapshot()["beats"].get(1), "it is not checked until a restart"

    def test_an_edit_with_an_unknown_notification_is_refused_and_stored_and_the_check_goes_on_as_before(self) -> None:
        async def run(client: Stranger) -> None:
            row = monitor("2.x", "port", "a", hostname="old", port=1)
            id = (await client.call("add", row))[1]["monitorID"]
            bad = {**row, "id": id, "hostname": "new", "notificationIDList": {"9": True}}
            assert "FOREIGN KEY" in (await client.call("editMonitor", bad))[1]["msg"]

        with serving() as emulator:
            visit(emulator, run)
            assert emulator.snapshot()["monitors"][1]["hostname"] == "new"
            assert (emulator.store.dials(1) or {})["hostname"] == "old"

    @dialects
    def test_calls_under_way_are_executed_after_the_connection_died(self, dialect: str) -> None:
        async def run(client: Stranger) -> None:
            for number in range(50):
                await client.socket.emit("add", (monitor(dialect, "group", f"m{number}"),), callback=lambda *_: None)
            while sum(event == "add" for _, event in emulator.faults.requests) < 50:
                await asyncio.sleep(0.01)

        with serving(dialect=dialect) as emulator:
            emulator.knobs.write = 0.2
            visit(emulator, run)
            assert len(emulator.store.monitors) < 50, "not one of them was answered"
            time.sleep(0.5)
            assert len(emulator.store.monitors) == 50

    def test_one_name_added_twice_at_once_makes_two(self) -> None:
        async def run(client: Stranger) -> list[Any]:
            return [answer["monitorID"] for _, answer in await asyncio.gather(*(client.call("add", row) for _ in range(2)))]

        row = monitor("2.x", "group", "same")
        with serving() as emulator:
            assert sorted(visit(emulator, run)) == [1, 2]

    def test_a_message_of_more_than_a_million_bytes_ends_the_connection(self) -> None:
        async def run(client: Stranger) -> None:
            fits = {**monitor("2.x", "group", "a"), "description": "x" * 200_000}
            assert (await client.call("add", fits))[1]["ok"]
            await client.socket.emit("add", ({**fits, "description": "x" * 1_100_000},))
            async with asyncio.timeout(5):
                while client.socket.connected:
                    await asyncio.sleep(0.01)

        with serving() as emulator:
            visit(emulator, run)
            assert len(emulator.store.monitors) == 1

    def test_a_client_that_polls_first_and_then_changes_over_is_served_too(self) -> None:
        async def run() -> None:
            client = Stranger()
            await client.socket.connect(emulator.url)
            await client.until("info")
            assert (await client.call("login", LOGIN))[1]["ok"]
            await client.socket.disconnect()

        with serving() as emulator:
            asyncio.run(run())

    @dialects
    def test_a_time_zone_that_does_not_exist_is_stored_and_breaks_the_list_for_everybody(self, dialect: str) -> None:
        two = {"hours": 2, "minutes": 0}
        given = {"title": "x", "description": "", "strategy": "manual", "active": True, "intervalDay": 1, "dateRange": [None, None]}
        given |= {"timeRange": [two, two], "weekdays": [], "daysOfMonth": [], "timezoneOption": "No/Where", "cron": ""}
        said = "Invalid time zone specified: No/Where" if dialect == "2.x" else "Invalid time value"

        async def run(client: Stranger) -> None:
            assert (await client.call("addMaintenance", given))[1] == {"ok": False, "msg": said}
            assert (await client.call("getMaintenanceList"))[1] == {"ok": False, "msg": said}
            assert (await client.call("deleteMaintenance", 1))[1]["ok"]
            assert (await client.call("getMaintenanceList"))[1] == {"ok": True}

        with serving(dialect=dialect) as emulator:
            visit(emulator, run)

    @dialects
    def test_a_maintenance_is_a_heartbeat_of_its_own_and_ends_with_it(self, dialect: str) -> None:
        with serving(
            dialect=dialect, monitors=[{"id": 3, "name": "a", "type": "group"}, {"id": 4, "name": "b", "type": "ping", "parent": 3}]
        ) as emulator:
            zero = {"hours": 0, "minutes": 0}
            given = {"title": "x", "strategy": "manual", "active": True, "dateRange": [None, None], "timeRange": [zero, zero]}
            id = emulator.store.windows.add(given)
            emulator.store.windows.link(id, [{"id": 3}], {3}, pages=False)
            beats = [emulator.store.checked(number, up=False) or {} for number in (3, 4)]
            assert [beat["status"] for beat in beats] == [3, 3], "a group takes all below along"
            emulator.store.windows.delete(id)
            assert (emulator.store.checked(4, up=False) or {})["status"] == 0

    def test_the_version_is_told_only_after_the_login(self) -> None:
        async def run(client: Stranger) -> list[bool]:
            return ["version" in info for info in client.info]

        with serving() as emulator:
            assert visit(emulator, run) == [False, True]

    def test_the_limit_on_logins_counts_successes_and_spares_tokens(self) -> None:
        async def run(client: Stranger) -> None:
            answers = [(await client.call("login", LOGIN))[1] for _ in range(20)]
            assert answers[-1] == {"ok": False, "msg": "Too frequently, try again later."}
            assert (await client.call("loginByToken", answers[0]["token"]))[1] == {"ok": True}

        with serving() as emulator:
            visit(emulator, run)

    def test_numbers_are_never_used_again(self) -> None:
        async def run(client: Stranger) -> int:
            first = (await client.call("add", monitor("2.x", "group", "a")))[1]["monitorID"]
            await client.call("deleteMonitor", first)
            return int((await client.call("add", monitor("2.x", "group", "b")))[1]["monitorID"]) - int(first)

        with serving() as emulator:
            assert visit(emulator, run) == 1

    def test_a_page_of_another_origin_is_turned_away(self) -> None:
        async def run() -> None:
            client = socketio.AsyncClient(reconnection=False, handle_sigint=False)
            with pytest.raises(socketio.exceptions.ConnectionError):
                await client.connect(emulator.url, headers={"Origin": "http://evil.example"}, transports=["websocket"])
            await client.eio.http.close()

        with serving() as emulator:
            asyncio.run(run())


def get(url: str, method: str = "GET", user: str = "", timeout: float = 3) -> tuple[int, str]:
    request = urllib.request.Request(url, method=method)
    if user:
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class TestPages:
    @dialects
    def test_a_push_address_takes_heartbeats(self, dialect: str) -> None:
        push = {"id": 4, "name": "roundtrip", "type": "push", "pushToken": "tok"}
        with serving(dialect=dialect, monitors=[push]) as emulator:
            assert get(f"{emulator.url}/api/push/tok?status=down&msg=bad&ping=") == (200, '{"ok":true}')
            assert get(f"{emulator.url}/api/push/tok", "POST")[0] == (200 if dialect == "2.x" else 404)
            assert get(f"{emulator.url}/api/push/no") == (404, '{"ok":false,"msg":"Monitor not found or not active."}')
            assert emulator.snapshot()["beats"][4][0]["msg"] == "bad"

    def test_a_status_page_is_for_everybody_and_an_unknown_one_is_refused_or_never_answered(self) -> None:
        for dialect in VERSIONS:
            with serving(dialect=dialect, monitors=[{"id": 7, "name": "smtp", "type": "port"}]) as emulator:
                emulator.store.pages.add("Mail", "Mail")
                config = {**emulator.store.pages.get("mail"), "title": "Mail"}
                emulator.store.pages.save("mail", config, "", [{"name": "G", "monitorList": [{"id": 7}]}], {7})
                shown = json.loads(get(f"{emulator.url}/api/status-page/mail")[1])
                assert [one["name"] for one in shown["publicGroupList"][0]["monitorList"]] == ["smtp"]
                if dialect == "2.x":
                    assert get(f"{emulator.url}/api/status-page/no") == (404, '{"status":"fail","msg":"Status Page Not Found"}')
                else:
                    with pytest.raises(TimeoutError):
                        get(f"{emulator.url}/api/status-page/no", timeout=0.3)

    def test_a_tag_made_since_the_start_takes_its_monitor_out_of_the_metrics_of_2x(self) -> None:
        for dialect, shown in (("2.x", False), ("1.23", True)):
            with serving(dialect=dialect, monitors=[{"id": 7, "name": "smtp", "type": "port"}]) as emulator:
                emulator.store.tags[1] = {"id": 1, "name": "new", "color": "#fff"}
                emulator.store.monitor_tags.append({"id": 1, "tag_id": 1, "monitor_id": 7, "value": ""})
                assert ('monitor_name="smtp"' in get(f"{emulator.url}/metrics", user="admin:adminpass1")[1]) is shown
                emulator.stop()
                emulator.start()
                assert 'monitor_name="smtp"' in get(f"{emulator.url}/metrics", user="admin:adminpass1")[1]

    def test_metrics_take_the_password_until_there_is_a_key(self) -> None:
        with serving(monitors=[{"id": 7, "name": "smtp", "type": "port", "hostname": "h", "port": 25}]) as emulator:
            assert get(f"{emulator.url}/metrics")[0] == 401
            _, text = get(f"{emulator.url}/metrics", user="admin:adminpass1")
            assert 'monitor_status{monitor_id="7",monitor_name="smtp"' in text
            emulator.store.api_keys[1] = "uk1_key"
            assert get(f"{emulator.url}/metrics", user="admin:adminpass1")[0] == 401
            assert get(f"{emulator.url}/metrics", user="any:uk1_key")[0] == 200
