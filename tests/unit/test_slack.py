import logging
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block
from slack_sdk.webhook import WebhookClient

from reconciler.errors import Permanent, SettingsError, Transient
from reconciler.notify import Button, Closed, LogSink, Notice
from reconciler.notify.slack import SlackSink, blocks, escape, fallback
from reconciler.resource import SecretValue
from reconciler.sandbox.slack import SlackEmulator
from reconciler.sandbox.slack_rules import message_fault

NOTICE = Notice(
    "mail converged",
    "ok",
    "mail",
    ("cloudflare/DNSRecord/spf: content changed", "probe/SMTP/mx: healthy"),
    ("1a2b3c4", "Ada", "12 s"),
    "mail/1a2b3c4",
    "https://reconciler.example.org/runs/1",
)


BUTTONS = st.builds(
    Button,
    action=st.sampled_from([f"reconciler_{number}" for number in range(9)]),
    label=st.sampled_from(["Plan", "", "&" * 80, "a long label " * 9]),
    value=st.sampled_from(["{}", "x" * 2001]),
    style=st.sampled_from(["", "primary"]),
    ask=st.sampled_from(["", "Sure?", "<" * 290, "a long question " * 40, "two\nlines\u202e"]),
)


def words(value: object) -> str:
    return "\n".join(texts(value))


def texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("text"), str):
            yield value["text"]
        else:
            for one in value.values():
                yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


class TestRendering:
    def test_a_notice_has_a_header_what_happened_and_where(self) -> None:
        header, section, context = blocks(NOTICE)
        assert header["text"] == {"type": "plain_text", "text": "✅ mail converged", "emoji": True}
        assert section["text"]["text"] == "• cloudflare/DNSRecord/spf: content changed\n• probe/SMTP/mx: healthy"
        assert [one["text"] for one in context["elements"]] == [
            "mail",
            "1a2b3c4",
            "Ada",
            "12 s",
            "<https://reconciler.example.org/runs/1|details>",
        ]

    def test_nothing_from_git_becomes_a_mention_or_a_link(self) -> None:
        evil = "<!channel> <https://evil.example|click> <@U123> & more"
        rendered = words(blocks(Notice(evil, "error", evil, (evil,), (evil,))))
        assert "<" not in rendered
        assert ">" not in rendered
        assert rendered.count("&lt;!channel&gt; &lt;https://evil.example|click&gt; &lt;@U123&gt; &amp; more") == 4

    def test_slack_is_told_to_look_for_no_names_of_its_own_accord(self) -> None:
        _, section, context = blocks(NOTICE)
        assert section["text"]["verbatim"]
        assert all(one["verbatim"] for one in context["elements"])

    def test_more_lines_than_anybody_reads_are_counted(self) -> None:
        section = blocks(Notice("x", "warning", "mail", tuple(f"line {number}" for number in range(25))))[1]
        assert section["text"]["text"].splitlines()[-2:] == ["• line 9", "and 15 more"]

    def test_a_line_stays_a_line(self) -> None:
        section = blocks(Notice("x", "info", "mail", ("one\ntwo\x00\u202ethree",)))[1]
        assert section["text"]["text"] == "• one two three"

    def test_an_entity_is_never_cut(self) -> None:
        assert escape("a<b", 6) == "a&lt;b"
        assert escape("a<b", 5) == "a…"
        assert escape("a<bc", 6) == "a&lt;…"

    def test_the_fallback_is_one_line(self) -> None:
        assert fallback(NOTICE) == "mail: mail converged; cloudflare/DNSRecord/spf: content changed; probe/SMTP/mx: healthy"

    def test_the_essentials_are_one_short_line_without_blocks_and_as_harmless(self) -> None:
        bare = Notice("<!channel> x", "error", "mail", tuple(f"<@U{number}> " + "x" * 400 for number in range(9)), bare=True)
        assert blocks(bare) == []
        assert fallback(bare).startswith("🚨 mail: &lt;!channel&gt; x; &lt;@U0&gt; xxx")
        assert len(fallback(bare)) < 800

    def test_an_address_of_ours_cannot_end_its_link_early(self) -> None:
        context = blocks(replace(NOTICE, link="https://reconciler.example.org/a|b> <!channel> c"))[2]
        assert context["elements"][-1]["text"] == "<https://reconciler.example.org/a%7Cb&gt;%20&lt;!channel&gt;%20c|details>"

    def test_a_notice_with_much_context_keeps_its_link(self) -> None:
        context = blocks(replace(NOTICE, context=tuple(f"part {number}" for number in range(20))))[2]
        assert len(context["elements"]) == 10
        assert context["elements"][-1]["text"].endswith("|details>")

    @given(
        st.builds(
            Notice,
            title=st.text(max_size=400),
            level=st.sampled_from(["ok", "info", "warning", "error"]),
            stack=st.text(max_size=60),
            lines=st.lists(st.text(alphabet="a<&>\n\u202e", max_size=400), max_size=14).map(tuple),
            context=st.lists(st.text(max_size=400), max_size=14).map(tuple),
            link=st.sampled_from(["", "https://reconciler.example.org/runs/1"]),
            code=st.text(max_size=4000),
            buttons=st.lists(BUTTONS, max_size=8, unique_by=lambda one: one.action).map(tuple),
            bare=st.booleans(),
        )
    )
    def test_every_notice_keeps_the_limits_of_slack(self, notice: Notice) -> None:
        rendered = blocks(notice)
        assert message_fault({"text": fallback(notice), "blocks": rendered}) == ""
        for block in Block.parse_all(rendered):
            block.validate_json()


@pytest.fixture
def slack() -> Iterator[SlackEmulator]:
    emulator = SlackEmulator()
    emulator.start()
    yield emulator
    emulator.stop()


@pytest.fixture
def sink(slack: SlackEmulator) -> SlackSink:
    return SlackSink(SecretValue(slack.settings()["url"]), timeout=1)


class TestSending:
    def test_a_notice_arrives_once_with_its_fallback(self, slack: SlackEmulator, sink: SlackSink) -> None:
        sink.send(NOTICE)
        (message,) = slack.messages
        assert message["text"] == fallback(NOTICE)

    def test_a_webhook_shows_no_button_because_nobody_hears_it(self, slack: SlackEmulator, sink: SlackSink) -> None:
        sink.send(replace(NOTICE, buttons=(Button("reconciler_plan", "Plan", "{}"),)))
        (message,) = slack.messages
        assert [one["type"] for one in message["blocks"]] == ["header", "section", "context"]
        assert message["blocks"] == blocks(NOTICE)
        assert "1 messages" in slack.summary()

    def test_a_busy_slack_says_how_long_to_wait(self, slack: SlackEmulator, sink: SlackSink) -> None:
        with slack.faults.during("rate-limit", times=1), pytest.raises(Transient) as caught:
            sink.send(NOTICE)
        assert caught.value.retry_after == 7
        assert len(slack.faults.requests) == 1

    @pytest.mark.parametrize("fault", ["server-error", "html", "latency", "cut-before", "cut-after"])
    def test_trouble_that_passes_is_worth_another_try(self, slack: SlackEmulator, sink: SlackSink, fault: str) -> None:
        with slack.faults.during(fault, times=1, seconds=1.3), pytest.raises(Transient):
            sink.send(NOTICE)
        sink.send(NOTICE)
        assert len(slack.faults.requests) == 2

    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            ("no-service", "404 no_service"),
            ("invalid-token", "403 invalid_token"),
            ("archived", "410 channel_is_archived"),
            ("odd", "200 maintenance"),
        ],
    )
    def test_a_refusal_stops_until_the_settings_change(self, slack: SlackEmulator, sink: SlackSink, fault: str, words: str) -> None:
        with slack.faults.during(fault, times=1), pytest.raises(Permanent, match=f"slack: answered {words}; check the webhook"):
            sink.send(NOTICE)

    def test_a_wrong_webhook_is_refused(self, slack: SlackEmulator) -> None:
        with pytest.raises(Permanent, match="no_service"):
            SlackSink(SecretValue(slack.settings()["url"] + "x")).send(NOTICE)

    def test_a_slack_that_is_not_there_is_worth_another_try(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/services/T/B/hidden"
            with pytest.raises(Transient, match="cannot be reached: ConnectionRefusedError"):
                SlackSink(SecretValue(url)).send(NOTICE)

    def test_the_address_is_never_shown(self, slack: SlackEmulator, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        sink = SlackSink(SecretValue(slack.settings()["url"]), timeout=1)
        sink.send(NOTICE)
        with slack.faults.during("archived", times=1), pytest.raises(Permanent) as caught:
            sink.send(NOTICE)
        with pytest.raises(SettingsError) as wrong:
            SlackSink(SecretValue("hooks.slack.com/services/T/B/emulated"))
        assert "emulated" not in caplog.text + str(caught.value) + str(wrong.value)

    def test_a_refusal_of_the_content_is_about_this_notice_alone_and_its_essentials_pass(
        self, slack: SlackEmulator, sink: SlackSink
    ) -> None:
        slack.workspace.dislikes = lambda message: "invalid_blocks" if message.get("blocks") else ""
        with pytest.raises(Permanent, match="400 invalid_blocks") as caught:
            sink.send(NOTICE)
        assert not isinstance(caught.value, Closed)
        sink.send(replace(NOTICE, bare=True))
        (message,) = slack.messages
        assert message["text"] == fallback(replace(NOTICE, bare=True))


class TestEmulator:
    @pytest.mark.parametrize(
        ("message", "answer"),
        [
            ({}, "no_text"),
            ({"text": "x", "blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]}, "invalid_blocks"),
            ({"text": "x", "blocks": [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]}, "invalid_blocks"),
            ({"text": "x", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}]}, "invalid_blocks"),
            ({"text": "x", "blocks": [{"type": "context", "elements": []}]}, "invalid_blocks"),
            ({"text": "x", "blocks": [{"type": "divider"}] * 51}, "invalid_blocks"),
            ({"text": "x", "blocks": [{"type": "surprise"}]}, "invalid_blocks"),
            ({"attachments": [{}] * 101}, "too_many_attachments"),
        ],
    )
    def test_it_refuses_what_slack_refuses(self, slack: SlackEmulator, message: dict[str, object], answer: str) -> None:
        response = WebhookClient(slack.settings()["url"], retry_handlers=[]).send_dict(message or {"x": 1})
        assert (response.status_code, response.body, slack.messages) == (400, answer, [])


def test_the_log_sink_writes_one_record_at_the_level_of_the_notice(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "reconciler.notify"):
        LogSink().send(Notice("drift found", "warning", "mail", ("cloudflare/DNSRecord/spf",), ("1a2b3c4",)))
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "mail: drift found; cloudflare/DNSRecord/spf; 1a2b3c4")
