import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reconciler.driver import Mark
from reconciler_uptime_kuma import marks
from reconciler_uptime_kuma.marks import Tag, join, of_config, split

PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="<>"), max_size=40).map(str.strip)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9./-]{0,20}[a-z0-9]", fullmatch=True)
TAGS = st.builds(
    Tag,
    mark=st.builds(Mark, owner=st.just("lab/mail"), kind=st.just("Monitor"), name=NAMES, keep=st.booleans()),
    digest=st.from_regex(r"([0-9a-f]{8})?", fullmatch=True),
    keys=st.lists(st.sampled_from(["headers", "ignoreTls", "basic_auth_pass"]), unique=True).map(sorted).map(tuple),
    secrets=st.dictionaries(st.sampled_from(["push_token", "headers"]), PLAIN.filter(bool)),
    labels=st.lists(PLAIN.filter(bool), unique=True, max_size=3).map(sorted).map(tuple),
)


@given(text=PLAIN, tag=TAGS)
def test_what_is_joined_comes_apart_again(text: str, tag: Tag) -> None:
    assert split(join(text, tag.line())) == (text, tag)
    assert split(join(text, tag.css())) == (text, tag)


@given(tag=TAGS)
def test_a_notification_carries_the_same_but_for_tags_which_it_has_none_of(tag: Tag) -> None:
    tag = replace(tag, labels=())
    assert of_config(json.loads(json.dumps({"type": "slack", marks.CONFIG_KEY: tag.config()}))) == tag


@given(text=PLAIN.filter(lambda text: not text.startswith("reconciler:")))
def test_text_without_a_mark_has_none(text: str) -> None:
    assert split(text) == (text, None)


def test_a_mark_is_found_when_people_wrote_below_it_or_took_the_comment_signs_away() -> None:
    text, tag = split("above\n\nreconciler:lab/mail:Monitor/smtp:keep\nbelow")
    assert text == "above\nbelow"
    assert tag is not None
    assert tag.mark == Mark("lab/mail", "Monitor", "smtp", keep=True)


def test_null_and_what_is_no_mark_are_read_without_failing() -> None:
    assert split(None) == ("", None)
    assert split("reconciler: see the wiki")[1] is None
    assert all(of_config({marks.CONFIG_KEY: value}) is None for value in (None, 5, "", "[]", "{", '{"mark": "x"}'))
