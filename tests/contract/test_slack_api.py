"""The bot against the emulated Slack, and the emulated Slack against a second opinion."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.models.blocks import Block

from reconciler.daemon.telling import sink
from reconciler.errors import Permanent, Transient
from reconciler.notify import Blind, Button, Closed, Gone, Notice, Place
from reconciler.notify.slack import SlackSink, blocks, fallback
from reconciler.notify.slack_api import SlackBot
from reconciler.resource import SecretValue
from reconciler.sandbox.slack import SlackEmulator
from reconciler.sandbox.slack_api import Channel
from reconciler.sandbox.slack_rules import blocks_faults, message_fault
from reconciler.settings import Notify

BUTTONS = (Button("plan", "Plan", "{}"), Button("approve", "Approve", '{"card":1}', "primary", "Let it pass?"))
NOTICE = Notice("drift in 1 resource", "warning", "mail", ("~ dns/Record/spf",), ("revision c1",), "drift:mail", buttons=BUTTONS)


@pytest.fixture
def slack() -> Iterator[SlackEmulator]:
    emulator = SlackEmulator()
    emulator.start()
    yield emulator
    emulator.stop()


def bot_of(slack: SlackEmulator, **more: Any) -> SlackBot:
    given = {**slack.bot(), **more}
    return SlackBot(SecretValue(given["bot_token"]), given["channel"], base_url=given["api_url"], timeout=2)


@contextmanager
def front_of(slack: SlackEmulator) -> Iterator[str]:
    """An address in front of the emulated Slack: what is posted there arrives, and then the connection ends without an answer."""

    class Front(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            names = ("Authorization", "Content-Type")
            headers = {name: self.headers[name] for name in names if name in self.headers}
            base = slack.bot()["api_url"].removesuffix("/api/")
            assert httpx.post(base + self.path, content=body, headers=headers).status_code == 200
            self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Front) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def bot(slack: SlackEmulator) -> SlackBot:
    return bot_of(slack)


class TestABot:
    def test_posts_a_notice_with_its_buttons_and_says_where_it_stands(self, slack: SlackEmulator, bot: SlackBot) -> None:
        place = bot.post(NOTICE, "m1")
        message = slack.workspace.message(place.ts)
        assert (message["text"], message["blocks"]) == (fallback(NOTICE), blocks(NOTICE))
        assert [one["action_id"] for one in message["blocks"][-1]["elements"]] == ["plan", "approve"]
        assert place.channel == "C00000001"

    def test_shows_no_buttons_that_nobody_hears(self, slack: SlackEmulator) -> None:
        deaf = sink(Notify.model_validate({"slack": slack.bot()}))
        assert isinstance(deaf, SlackBot)
        place = deaf.post(NOTICE, "m1")
        assert "actions" not in [one["type"] for one in slack.workspace.message(place.ts)["blocks"]]

    def test_edits_in_place(self, slack: SlackEmulator, bot: SlackBot) -> None:
        place = bot.post(NOTICE, "m1")
        bot.edit(place, Notice("over", "ok", "mail"), "m1")
        (message,) = slack.messages
        assert message["text"] == "mail: over"
        assert "edited" in message

    def test_answers_in_a_thread_which_the_channel_does_not_show(self, slack: SlackEmulator, bot: SlackBot) -> None:
        place = bot.post(NOTICE, "m1")
        bot.post(Notice("in detail", "info", "mail"), "n1", place.ts)
        assert slack.messages[1]["thread_ts"] == place.ts
        assert bot.find("n1", 0) is None
        assert bot.find("n1", 0, place.ts) is not None

    def test_finds_what_it_posted_by_its_mark_on_any_page(self, slack: SlackEmulator, bot: SlackBot) -> None:
        first = bot.post(NOTICE, "m1")
        channel = slack.workspace.channels["C00000001"]
        channel.messages += [{"ts": slack.workspace.stamp(), "user": "U1", "text": "chat"} for _ in range(450)]
        assert bot.find("m1", 0) == first
        assert bot.find("m2", 0) is None
        assert bot.find("m1", float(first.ts) + 1) is None, "it is older than what is looked for"

    def test_whispers_to_one_person(self, slack: SlackEmulator, bot: SlackBot) -> None:
        bot.whisper("U0000ADA", "you may not <!channel>")
        assert slack.workspace.whispers[0]["text"] == "you may not &lt;!channel&gt;"
        assert slack.messages == []

    def test_tells_an_answer_that_was_cut_from_one_that_never_came(self, slack: SlackEmulator, bot: SlackBot) -> None:
        with slack.faults.during("cut-after", times=1), pytest.raises(Transient, match=r"slack: (cannot be reached|the answer could not)"):
            bot.post(NOTICE, "m1")
        assert len(slack.messages) == 1, "and it was not posted twice by a retry of the client"
        assert bot.find("m1", 0) is not None

    def test_and_a_webhook_post_once_though_who_took_it_hangs_up_without_a_word(self, slack: SlackEmulator) -> None:
        with front_of(slack) as front:
            with pytest.raises(Transient, match="slack: cannot be reached: RemoteDisconnected"):
                bot_of(slack, api_url=f"{front}/api/").post(NOTICE, "m1")
            with pytest.raises(Transient, match="slack: cannot be reached: RemoteDisconnected"):
                SlackSink(SecretValue(front + urlsplit(slack.settings()["url"]).path)).send(NOTICE)
        assert len(slack.messages) == 2, "a second try of the client would be a second message"

    def test_marks_what_it_edits_whatever_becomes_of_the_old_mark(self, slack: SlackEmulator, bot: SlackBot) -> None:
        place = bot.post(NOTICE, "m1")
        bot.edit(place, NOTICE, "m2")
        assert (bot.find("m2", 0), bot.find("m1", 0)) == (place, None)

    def test_takes_no_message_for_its_own_whose_metadata_is_of_another_kind(self, slack: SlackEmulator, bot: SlackBot) -> None:
        client = WebClient(slack.bot()["bot_token"], base_url=slack.bot()["api_url"], retry_handlers=[])
        other = {"event_type": "deployment", "event_payload": {"id": "m1"}}
        client.api_call("chat.postMessage", json={"channel": "C00000001", "text": "x", "metadata": other})
        assert bot.find("m1", 0) is None

    def test_and_a_webhook_have_slack_fetch_no_page_that_a_notice_names(self, slack: SlackEmulator, bot: SlackBot) -> None:
        linked = replace(NOTICE, link="https://r.example/runs/1", lines=("see https://evil.example/pixel.png",))
        bot.post(linked, "m1")
        SlackSink(SecretValue(slack.settings()["url"])).send(linked)
        assert slack.previews == []
        client = WebClient(slack.bot()["bot_token"], base_url=slack.bot()["api_url"], retry_handlers=[])
        client.api_call("chat.postMessage", json={"channel": "C00000001", "text": "see https://evil.example/pixel.png"})
        assert slack.previews == ["https://evil.example/pixel.png"], "it does so when it is not told otherwise"

    def test_shows_its_token_to_nobody(self, slack: SlackEmulator, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        wrong = bot_of(slack, bot_token="xoxb-planted-canary")
        with pytest.raises(Closed) as caught:
            wrong.post(NOTICE, "m1")
        with slack.faults.during("cut-before", times=1), pytest.raises(Transient) as cut:
            wrong.post(NOTICE, "m1")
        assert "canary" not in caplog.text + str(caught.value) + str(cut.value) + repr(wrong)


class TestARefusal:
    @pytest.mark.parametrize(
        ("word", "words"),
        [
            ("token_revoked", "install the app again"),
            ("account_inactive", "the bot was removed"),
            ("token_expired", "set notify.slack.bot_token anew"),
            ("restricted_action", "ask its owner"),
            ("a_word_that_is_new", "check notify.slack"),
        ],
    )
    def test_that_is_about_us_shuts_the_way(self, slack: SlackEmulator, bot: SlackBot, word: str, words: str) -> None:
        slack.workspace.trouble = word
        with pytest.raises(Closed, match=f"slack: chat.postMessage: {word}; .*{words}"):
            bot.post(NOTICE, "m1")

    def test_of_the_token_the_channel_or_the_membership_shuts_the_way(self, slack: SlackEmulator, bot: SlackBot) -> None:
        with pytest.raises(Closed, match="invalid_auth"):
            bot_of(slack, bot_token="xoxb-wrong").post(NOTICE, "m1")
        with pytest.raises(Closed, match=r"channel_not_found; set notify\.slack\.channel"):
            bot_of(slack, channel="C99999999").post(NOTICE, "m1")
        slack.workspace.channels["C00000001"].member = False
        with pytest.raises(Closed, match="not_in_channel; invite the bot"):
            bot.post(NOTICE, "m1")
        slack.workspace.channels["C00000001"].archived = True
        with pytest.raises(Closed, match="is_archived; take the channel out"):
            bot.post(NOTICE, "m1")

    def test_for_want_of_a_scope_names_it(self, slack: SlackEmulator, bot: SlackBot) -> None:
        slack.workspace.scopes.discard("channels:history")
        with pytest.raises(Blind, match="give the app the scope channels:history"):
            bot.find("m1", 0)

    def test_of_one_message_is_about_that_message(self, slack: SlackEmulator, bot: SlackBot, monkeypatch: pytest.MonkeyPatch) -> None:
        from reconciler.notify import slack_api

        monkeypatch.setattr(
            slack_api, "blocks", lambda notice, **_: [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]
        )
        with pytest.raises(Permanent, match=r"invalid_blocks; .*must be less than 151 characters") as caught:
            bot.post(NOTICE, "m1")
        assert not isinstance(caught.value, Closed)

    def test_to_edit_what_is_not_there_or_not_ours_or_too_old_is_told_apart(self, slack: SlackEmulator, bot: SlackBot) -> None:
        place = bot.post(NOTICE, "m1")
        with pytest.raises(Gone, match="message_not_found"):
            bot.edit(Place(place.channel, "1.000001"), NOTICE, "m1")
        slack.workspace.window_closed = True
        with pytest.raises(Gone, match="edit_window_closed"):
            bot.edit(place, NOTICE, "m1")
        slack.messages[0]["user"] = "U0000EVE"
        with pytest.raises(Gone, match="cant_update_message"):
            bot.edit(place, NOTICE, "m1")

    @pytest.mark.parametrize(("fault", "wait"), [("api-rate-limit", 7.0), ("rate-limit", 7.0), ("server-error", None), ("html", None)])
    def test_for_now_says_how_long(self, slack: SlackEmulator, bot: SlackBot, fault: str, wait: float | None) -> None:
        with slack.faults.during(fault, times=1), pytest.raises(Transient) as caught:
            bot.post(NOTICE, "m1")
        assert caught.value.retry_after == wait
        assert [path for _, path in slack.faults.requests] == ["/api/chat.postMessage"], "asked once"

    def test_by_a_slack_that_is_not_there_is_worth_another_try(self, slack: SlackEmulator) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            api = f"http://127.0.0.1:{taken.getsockname()[1]}/api/"
            with pytest.raises(Transient, match="cannot be reached: ConnectionRefusedError"):
                bot_of(slack, api_url=api).post(NOTICE, "m1")


class TestTheEmulator:
    def test_lets_one_message_a_second_into_a_channel(self, slack: SlackEmulator, bot: SlackBot) -> None:
        seconds = [0.0]
        slack.workspace.monotonic, slack.workspace.burst = (lambda: seconds[0]), 1
        bot.post(NOTICE, "m1")
        seconds[0] = 0.9
        with pytest.raises(Transient) as caught:
            bot.post(NOTICE, "m2")
        assert caught.value.retry_after == 1
        seconds[0] = 1.0
        bot.post(NOTICE, "m2")
        assert len(slack.messages) == 2

    def test_lets_fifty_edits_a_minute_pass(self, slack: SlackEmulator, bot: SlackBot) -> None:
        slack.workspace.monotonic = lambda: 0.0
        place = bot.post(NOTICE, "m1")
        for _ in range(50):
            bot.edit(place, NOTICE, "m1")
        with pytest.raises(Transient) as caught:
            bot.edit(place, NOTICE, "m1")
        assert caught.value.retry_after == 60

    def test_knows_channels_by_name_for_posts_and_not_for_edits(self, slack: SlackEmulator) -> None:
        client = WebClient(slack.bot()["bot_token"], base_url=slack.bot()["api_url"], retry_handlers=[])
        answer = client.chat_postMessage(channel="#ops", text="x")
        assert answer["channel"] == "C00000001"
        with pytest.raises(SlackApiError, match="channel_not_found"):
            client.chat_update(channel="#ops", ts=answer["ts"], text="y")

    @pytest.mark.parametrize(
        ("body", "word"), [({}, "no_text"), ({"text": "x" * 40_001}, "msg_too_long"), ({"blocks": [{"type": "video"}]}, "invalid_blocks")]
    )
    def test_answers_200_to_what_it_refuses(self, slack: SlackEmulator, body: dict[str, Any], word: str) -> None:
        client = WebClient(slack.bot()["bot_token"], base_url=slack.bot()["api_url"], retry_handlers=[])
        with pytest.raises(SlackApiError) as caught:
            client.api_call("chat.postMessage", json={"channel": "C00000001", **body})
        assert (caught.value.response.status_code, caught.value.response["error"]) == (200, word)

    def test_keeps_metadata_that_an_edit_does_not_give(self, slack: SlackEmulator, bot: SlackBot) -> None:
        place = bot.post(NOTICE, "m1")
        client = WebClient(slack.bot()["bot_token"], base_url=slack.bot()["api_url"], retry_handlers=[])
        client.chat_update(channel=place.channel, ts=place.ts, text="y")
        assert bot.find("m1", 0) == place

    def test_takes_blocks_away_when_an_edit_gives_only_text(self, slack: SlackEmulator, bot: SlackBot) -> None:
        place = bot.post(NOTICE, "m1")
        client = WebClient(slack.bot()["bot_token"], base_url=slack.bot()["api_url"], retry_handlers=[])
        client.chat_update(channel=place.channel, ts=place.ts, text="y")
        assert slack.messages[0]["blocks"] == []

    def test_keeps_channels_apart(self, slack: SlackEmulator, bot: SlackBot) -> None:
        slack.workspace.channels["C00000009"] = Channel("C00000009", "other")
        bot_of(slack, channel="C00000009").post(NOTICE, "m9")
        assert bot.find("m9", 0) is None


texts = st.text(max_size=400)


@given(
    st.builds(
        Notice,
        title=texts,
        level=st.sampled_from(["ok", "info", "warning", "error"]),
        stack=texts,
        lines=st.lists(st.text(alphabet="a<&>`\n\u202e", max_size=400), max_size=14).map(tuple),
        code=st.one_of(st.just(""), st.text(alphabet="a<&>`\n", max_size=5000)),
        buttons=st.lists(
            st.builds(
                Button,
                st.uuids().map(str),
                st.text(min_size=1, max_size=200),
                st.text(max_size=3000),
                st.sampled_from(["", "primary"]),
                texts,
            ),
            max_size=9,
        ).map(tuple),
    )
)
def test_every_card_keeps_the_limits_of_slack_by_our_rules_and_by_those_of_its_own_library(notice: Notice) -> None:
    rendered = blocks(notice)
    assert blocks_faults(rendered) == []
    assert message_fault({"text": fallback(notice), "blocks": rendered}) == ""
    for block in Block.parse_all(rendered):
        block.validate_json()
