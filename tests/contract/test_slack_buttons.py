"""From a card to its end by a button: a daemon on a system in memory, an emulated Slack, and real requests between them."""

import hashlib
import hmac
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
import yaml
from pydantic import SecretStr
from slack_sdk.models.blocks import Block

from reconciler.daemon import cards
from reconciler.daemon.cards import record
from reconciler.daemon.faces import ACKNOWLEDGE, ADOPT, APPROVE, FIX, LOOK, PLAN
from reconciler.daemon.http.app import application
from reconciler.daemon.http.door import Door
from reconciler.daemon.http.slack import PATH, pressing
from reconciler.daemon.offers import Offers
from reconciler.daemon.outbox import Outbox
from reconciler.daemon.telling import outbox
from reconciler.resource import JSONObject
from reconciler.sandbox.slack import SlackEmulator
from reconciler.settings import Settings
from reconciler.stack import ExceptionSpec
from reconciler.state import Store
from tests.unit.core.memory import stack_file, thing
from tests.unit.daemon.house import GOOD, House, commit

ADA, EVE = "U0000ADA", "U0000EVE"
REPORTED = thing("a", text="Hello", annotations={"drift": "report"})
CAREFUL = stack_file(policy={"approval": "commits"}).replace("name: test", "name: mail")


class Site(House):
    """A house whose outbox leads to an emulated Slack, and whose door hears its buttons."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.slack = SlackEmulator()
        self.slack.workspace.monotonic = lambda: self.time.seconds
        self.slack.workspace.now = lambda: self.time.now.timestamp()
        self.slack.start()
        self.configure({})

    def configure(self, sections: JSONObject) -> None:
        """Take these settings beside those of Slack, and open the door anew."""
        notify = {"slack": {**self.slack.bot(), "signing_secret": self.slack.signing_secret, "users": {ADA: "ada"}}, "debounce": 0}
        settings = Settings.model_validate({"notify": notify, "http": {"listen": "127.0.0.1:0"}, **sections})
        self.daemon.workshop.settings = settings.model_copy(update={"targets": {"mem": {"system": self.system}}})
        self.daemon.outbox = self.bot()
        self.offers = Offers(self.daemon.workshop, self.store, self.daemon.force.get)
        self.door = Door("http", "127.0.0.1:0", application([pressing(self.daemon)]))
        self.door.open()

    def bot(self) -> Outbox:
        return outbox(self.daemon.workshop.settings, self.store, self.daemon.workshop.clock)

    def close(self) -> None:
        self.door.close()
        self.slack.stop()
        self.store.close()

    def show(self) -> list[str]:
        """Tell what is owed; give the cards that the channel shows."""
        for _ in range(3):
            self.daemon.outbox.flush(Event())
        return [message["text"].partition(";")[0] for message in self.cards()]

    def cards(self) -> list[JSONObject]:
        return [one for one in self.slack.messages if "thread_ts" not in one]

    def thread(self) -> list[JSONObject]:
        return [one for one in self.slack.messages if "thread_ts" in one]

    def press(self, action: str, user: str = ADA, card: int = -1) -> int:
        return self.slack.press(self.door.url + PATH, self.cards()[card]["ts"], action, user)

    def begin(self, text: str = GOOD, name: str = "c1", **more: str) -> None:
        self.daemon.accept(commit(name, mail={"all.yaml": text, **more}))
        self.passes(1)

    def later(self, seconds: float = 300) -> None:
        self.time.seconds += seconds
        self.time.now += timedelta(seconds=seconds)
        self.passes(1)

    def live(self) -> Any:
        return self.system.objects["Thing/a"].content["text"]

    def meddle(self, text: str = "meddled") -> None:
        self.system.objects["Thing/a"].content["text"] = text


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


@pytest.fixture
def drifted(site: Site) -> Site:
    """A site with one drift that is only reported, and its card."""
    site.begin(REPORTED)
    site.meddle()
    site.later()
    assert site.show()[-1] == "mail: drift in 1 resource"
    return site


def buttons(message: JSONObject) -> list[str]:
    return [one["action_id"] for block in message["blocks"] if block["type"] == "actions" for one in block["elements"]]


def said(message: JSONObject) -> str:
    return str(message["blocks"])


class TestACard:
    def test_of_drift_is_one_message_from_its_beginning_to_its_end(self, drifted: Site) -> None:
        assert buttons(drifted.cards()[-1]) == [PLAN, FIX, ACKNOWLEDGE, ADOPT]
        drifted.meddle("Hello")
        drifted.later()
        assert drifted.show() == ["mail: converged: 1 to create", "mail: over: drift in 1 resource"]
        assert buttons(drifted.cards()[-1]) == []
        assert [one["text"].partition(";")[0] for one in drifted.thread()][-1] == "mail: over"

    def test_holds_to_the_limits_by_a_second_opinion(self, drifted: Site) -> None:
        for message in drifted.slack.messages:
            for block in Block.parse_all(message["blocks"]):
                block.validate_json()

    def test_survives_a_restart_and_is_edited_by_the_next_process(self, drifted: Site) -> None:
        drifted.store.close()
        drifted.store = Store(drifted.folder / "state.db", news=record)
        drifted.daemon.store = drifted.store
        drifted.daemon.outbox = drifted.bot()
        drifted.meddle("Hello")
        drifted.later()
        assert drifted.show()[-1] == "mail: over: drift in 1 resource"

    def test_is_told_when_slack_comes_back_and_passes_go_on_without_it(self, site: Site) -> None:
        site.slack.stop()
        site.begin(REPORTED)
        site.meddle()
        site.later()
        site.show()
        assert [one["verdict"] for one in site.store.runs("mail")] == ["pending", "converged"]
        site.slack.start()
        assert site.show() == ["mail: converged: 1 to create", "mail: drift in 1 resource"]

    def test_of_a_shut_way_is_a_condition_and_nothing_is_lost(self, site: Site) -> None:
        site.slack.workspace.trouble = "token_revoked"
        site.begin(REPORTED)
        site.show()
        with site.store.transaction() as connection:
            (condition,) = cards.conditions(connection)
        assert "token_revoked; install the app again" in condition["message"]
        site.slack.workspace.trouble = ""
        assert site.show() == ["mail: converged: 1 to create"]


class TestContentThatSlackRefuses:
    """Such as a block that it no longer takes: what matters still arrives, once."""

    def test_arrives_as_plain_text_and_as_a_card_again_when_it_may(self, drifted: Site, caplog: pytest.LogCaptureFixture) -> None:
        drifted.slack.workspace.dislikes = lambda message: "invalid_blocks" if message.get("blocks") else ""
        drifted.meddle("meddled once more")
        drifted.later()
        shown = drifted.show()
        assert [one.removeprefix("⚠️ ") for one in shown] == ["mail: converged: 1 to create", "mail: drift in 1 resource"]
        assert drifted.cards()[-1]["blocks"] == [], "the old card is not left standing under the new words"
        assert "reported only: ~ mem/Thing/a" in drifted.cards()[-1]["text"]
        assert "invalid_blocks" in caplog.text
        drifted.slack.workspace.dislikes = lambda message: ""
        drifted.meddle("meddled for the third time")
        drifted.later()
        assert drifted.show() == ["mail: converged: 1 to create", "mail: drift in 1 resource"]
        assert FIX in buttons(drifted.cards()[-1])

    @pytest.mark.parametrize("word", ["msg_too_long", "invalid_blocks", "msg_blocks_too_long"])
    def test_of_a_new_card_is_posted_once(self, site: Site, word: str) -> None:
        site.slack.workspace.dislikes = lambda message: word if message.get("blocks") or len(message["text"]) > 800 else ""
        site.begin(REPORTED)
        for _ in range(4):
            site.show()
        assert [one["text"].partition(";")[0] for one in site.cards()] == ["✅ mail: converged: 1 to create"]

    def test_does_not_keep_a_rate_limit_from_being_waited_for(self, site: Site) -> None:
        site.slack.workspace.dislikes = lambda message: "invalid_blocks" if message.get("blocks") else ""
        site.begin(REPORTED)
        with site.slack.faults.during("api-rate-limit", times=1):
            assert site.daemon.outbox.flush(Event()) == 7
        assert site.cards() == []
        assert len(site.show()) == 1


class TestApprove:
    def test_lets_exactly_the_held_plan_pass(self, site: Site) -> None:
        site.begin(GOOD, **{"stack.yaml": CAREFUL})
        assert site.show() == ["mail: 1 change is held by the guard"]
        assert site.press(APPROVE) == 200
        assert site.passes(1) == ["mail"]
        assert site.live() == "Hello"
        assert site.show() == ["mail: over: 1 change is held by the guard", "mail: converged: 1 to create"]
        assert "approved by ada" in said(site.cards()[0])

    def test_counts_once_however_often_and_by_whom_it_is_pressed(self, site: Site) -> None:
        site.begin(GOOD, **{"stack.yaml": CAREFUL})
        site.show()
        body = site.slack.pressed(site.cards()[0]["ts"], APPROVE, ADA)
        for _ in range(3):
            site.time.now += timedelta(seconds=1)
            assert httpx.post(site.door.url + PATH, content=body, headers=site.slack.signed(body)).status_code == 200
        site.show()
        assert sum("approved by ada" in one["text"] for one in site.thread()) == 1
        wait_for(lambda: len(site.slack.workspace.whispers) == 2)
        assert (
            "changed since you saw it" in site.slack.workspace.whispers[0]["text"]
            or "ada did that" in site.slack.workspace.whispers[0]["text"]
        )

    def test_by_a_stranger_does_nothing_and_tells_only_him(self, site: Site) -> None:
        site.begin(GOOD, **{"stack.yaml": CAREFUL})
        site.show()
        assert site.press(APPROVE, EVE) == 200
        assert site.store.approved() == set()
        wait_for(lambda: bool(site.slack.workspace.whispers))
        assert site.slack.workspace.whispers[0]["user"] == EVE
        assert "you may not do that here" in site.slack.workspace.whispers[0]["text"]

    def test_of_a_card_that_has_changed_since_does_nothing(self, site: Site) -> None:
        site.begin(GOOD, **{"stack.yaml": CAREFUL})
        site.show()
        body = site.slack.pressed(site.cards()[0]["ts"], APPROVE, ADA)
        site.begin(GOOD + thing("b"), "c2", **{"stack.yaml": CAREFUL})
        assert httpx.post(site.door.url + PATH, content=body, headers=site.slack.signed(body)).status_code == 200
        assert site.store.approved() == set()
        wait_for(lambda: bool(site.slack.workspace.whispers))
        assert "has changed since you saw it" in site.slack.workspace.whispers[0]["text"]


class TestFixNow:
    def test_puts_the_drift_back_this_once(self, drifted: Site) -> None:
        assert drifted.press(FIX) == 200
        drifted.passes(1)
        assert drifted.live() == "Hello"
        assert drifted.show()[-1] == "mail: over: drift in 1 resource"
        drifted.meddle()
        drifted.later()
        assert drifted.live() == "meddled", "the next drift is only reported again"
        assert drifted.show()[-1] == "mail: drift in 1 resource"

    def test_is_not_offered_where_it_would_let_more_pass_than_the_drift(self, site: Site) -> None:
        site.begin(REPORTED + thing("b"), **{"stack.yaml": stack_file(policy={"approval": "deletes"}).replace("name: test", "name: mail")})
        site.meddle()
        site.daemon.accept(
            commit(
                "c2",
                mail={"all.yaml": REPORTED, "stack.yaml": stack_file(policy={"approval": "deletes"}).replace("name: test", "name: mail")},
            )
        )
        site.passes(1)
        shown = dict(zip(site.show(), site.cards(), strict=True))
        assert buttons(shown["mail: drift in 1 resource"]) == [PLAN, ACKNOWLEDGE, ADOPT]
        assert buttons(shown["mail: 1 change is held by the guard"]) == [PLAN, APPROVE]


class TestAcknowledge:
    def test_ends_the_card_for_a_day_and_gives_the_document_to_commit(self, drifted: Site) -> None:
        assert drifted.press(ACKNOWLEDGE) == 200
        drifted.passes(1)
        assert drifted.show()[-1] == "mail: over: drift in 1 resource"
        assert "acknowledged by ada until 2026-04-02" in said(drifted.cards()[-1])
        (code,) = [text for message in drifted.thread() for text in preformatted(message)]
        document = yaml.safe_load(code)
        assert (document["kind"], document["spec"]["resource"], document["spec"]["values"]) == (
            "DriftException",
            "mem/Thing/a",
            {"/text": "meddled"},
        )
        ExceptionSpec.model_validate(document["spec"])
        drifted.later(86_400 + 300)
        assert drifted.show()[-2:] == ["mail: drift in 1 resource", "mail: drift older than a day in 1 resource"]
        assert drifted.live() == "meddled"

    def test_that_is_committed_holds_as_it_stands(self, drifted: Site) -> None:
        drifted.press(ACKNOWLEDGE)
        drifted.show()
        (code,) = [text for message in drifted.thread() for text in preformatted(message)]
        drifted.begin(REPORTED + "---\n" + code, "c2")
        assert drifted.reports[-1].verdict == "converged"

    def test_of_another_value_does_not_count(self, drifted: Site) -> None:
        drifted.press(ACKNOWLEDGE)
        drifted.passes(1)
        drifted.show()
        drifted.meddle("meddled otherwise")
        drifted.later()
        assert drifted.show()[-1] == "mail: drift in 1 resource"


class TestPlanAndLook:
    def test_a_plan_is_shown_in_the_thread_and_writes_nothing(self, drifted: Site) -> None:
        before = drifted.system.writes
        assert drifted.press(PLAN) == 200
        wait_for(lambda: bool(drifted.show()) and any("digest" in text for one in drifted.thread() for text in preformatted(one)))
        assert drifted.system.writes == before

    def test_another_look_is_a_pass(self, site: Site) -> None:
        from reconciler.errors import Permanent

        site.system.on_read = [Permanent("mem: 401 the token has expired")]
        site.begin()
        assert site.show() == ["mail: mem cannot be seen"]
        assert site.press(LOOK) == 200
        assert site.passes(1) == ["mail"]
        assert site.show()[0] == "mail: mem can be seen again"


class TestTheDoor:
    """Nothing but what Slack signed of late, and each only once."""

    def post(self, site: Site, body: bytes, headers: dict[str, str]) -> int:
        return httpx.post(site.door.url + PATH, content=body, headers=headers).status_code

    def test_refuses_what_is_not_signed_by_slack(self, drifted: Site) -> None:
        body = drifted.slack.pressed(drifted.cards()[-1]["ts"], FIX, ADA)
        good = drifted.slack.signed(body)
        wrong = [
            {},
            {**good, "X-Slack-Signature": ""},
            {**good, "X-Slack-Signature": good["X-Slack-Signature"].upper()},
            {**good, "X-Slack-Signature": good["X-Slack-Signature"].removeprefix("v0=")},
            {**good, "X-Slack-Signature": "v0=" + "0" * 64},
            {**good, "X-Slack-Request-Timestamp": "abc"},
            {**good, "X-Slack-Request-Timestamp": "-1"},
            {**good, "X-Slack-Request-Timestamp": "9" * 400},
            drifted.slack.signed(body + b" "),
            drifted.slack.signed(body, drifted.time.now.timestamp() - 301),
            drifted.slack.signed(body, drifted.time.now.timestamp() + 301),
        ]
        assert {self.post(drifted, body, headers) for headers in wrong} == {401}
        raw = {b"X-Slack-Signature": b"v0=\xff\xfe", b"X-Slack-Request-Timestamp": good["X-Slack-Request-Timestamp"].encode()}
        assert httpx.post(drifted.door.url + PATH, content=body, headers=list(raw.items())).status_code == 401
        twice = [(name.encode(), value.encode()) for name, value in [*good.items(), ("X-Slack-Signature", good["X-Slack-Signature"])]]
        assert httpx.post(drifted.door.url + PATH, content=body, headers=twice).status_code == 401
        with drifted.store.transaction() as connection:
            from reconciler.daemon import acks

            assert acks.granted(connection, "mail") == ()

    def test_goes_by_the_secret_of_the_settings_as_they_are_now(self, drifted: Site) -> None:
        body = drifted.slack.pressed(drifted.cards()[-1]["ts"], FIX, ADA)
        for secret, status in (("another", 401), ("", 401), (drifted.slack.signing_secret, 200)):
            settings = drifted.daemon.workshop.settings
            slack = settings.notify.slack.model_copy(update={"signing_secret": SecretStr(secret)})
            notify = settings.notify.model_copy(update={"slack": slack})
            drifted.daemon.workshop.settings = settings.model_copy(update={"notify": notify})
            forged = {**drifted.slack.signed(body), **(signed_with("", body, drifted) if not secret else {})}
            assert self.post(drifted, body, forged) == status

    def test_refuses_what_came_before(self, drifted: Site) -> None:
        body = drifted.slack.pressed(drifted.cards()[-1]["ts"], FIX, ADA)
        headers = drifted.slack.signed(body)
        assert [self.post(drifted, body, headers) for _ in range(2)] == [200, 401]

    @pytest.mark.parametrize(
        "body", [b"", b"payload=", b"payload=%7B", b"payload=[1]&x", b"\xff\xfe", b"payload=%7B%22type%22%3A%22block_actions%22%7D"]
    )
    def test_survives_what_is_signed_and_makes_no_sense(self, site: Site, body: bytes) -> None:
        assert self.post(site, body, site.slack.signed(body)) in (200, 400)

    def test_takes_no_more_than_a_press_has(self, site: Site) -> None:
        body = b"x" * 1_000_001
        assert self.post(site, body, site.slack.signed(body)) == 413

    def test_answers_within_the_time_that_slack_waits(self, drifted: Site) -> None:
        began = time.monotonic()
        assert drifted.press(PLAN) == 200
        assert time.monotonic() - began < 1


def preformatted(message: JSONObject) -> list[str]:
    rich = [one for block in message["blocks"] if block["type"] == "rich_text" for one in block["elements"]]
    return [text["text"] for one in rich for text in one["elements"]]


def signed_with(secret: str, body: bytes, site: Site) -> dict[str, str]:
    """Sign a body as somebody does who knows, or guesses, the secret."""
    stamp = str(int(site.time.now.timestamp()))
    mac = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={mac}"}


def wait_for(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
