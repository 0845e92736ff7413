"""What of new settings may count while the daemon runs: the laws of it, over all sorts of settings."""

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from reconciler.daemon.http.config import Http, loopback
from reconciler.daemon.merging import ADDRESSES, merge
from reconciler.settings import Settings, differing

TOKEN, SECRET = "t" * 20, "of the sender"
SLACK = {"bot_token": "xoxb-1", "channel": "C0123ABCD", "users": {"U0123ABCD": "ada"}, "signing_secret": "s"}


def settings(http: dict[str, Any], *, buttons: bool, instance: str) -> Settings | None:
    at = dict(zip(ADDRESSES, http["at"], strict=True))
    rest = {name: value for name, value in http.items() if name != "at"}
    try:
        return Settings.model_validate({"http": {**at, **rest}, "notify": {"slack": SLACK} if buttons else {}, "instance": instance})
    except ValueError:
        return None


PAIRS = [("", ""), ("127.0.0.1:8080", ""), ("0.0.0.0:8080", ""), ("", "0.0.0.0:8081"), ("127.0.0.1:8080", "[::]:8081")]
"""Where a daemon may listen; few, so that one often moves from each to each."""
HTTP = st.fixed_dictionaries(
    {
        "at": st.sampled_from(PAIRS),
        "tokens": st.sampled_from([{}, {"a": {"token": TOKEN}}, {"b": {"token": TOKEN, "role": "approve"}}]),
        "webhooks": st.sampled_from([{}, {"forge": {"scheme": "github", "secrets": [SECRET]}}]),
        "metrics": st.sampled_from(["token", "open"]),
    }
)
SETTINGS = (
    st.builds(settings, HTTP, buttons=st.booleans(), instance=st.sampled_from(["home", "office"]))
    .filter(lambda one: one is not None)
    .map(lambda one: one or Settings())
)


@given(SETTINGS, SETTINGS)
def test_the_addresses_of_the_start_stay_and_who_is_heard_there_is_right_as_at_a_start(before: Settings, after: Settings) -> None:
    found = merge(before, after, differing(before, after)).settings
    assert [getattr(found.http, name) for name in ADDRESSES] == [getattr(before.http, name) for name in ADDRESSES]
    Http.model_validate(found.http.model_dump())
    assert found.instance == before.instance
    if found.http.listen and not loopback(found.http.listen):
        assert found.http.tokens


@given(SETTINGS, SETTINGS)
def test_where_nothing_moves_everything_that_can_change_does(before: Settings, after: Settings) -> None:
    assume(all(getattr(before.http, name) == getattr(after.http, name) for name in ADDRESSES))
    merged = merge(before, after, differing(before, after))
    assert (merged.settings.http, merged.settings.notify) == (after.http, after.notify)
    assert set(merged.late) <= {"instance"}
    assert not merged.words


@given(SETTINGS, SETTINGS)
def test_whatever_does_not_count_is_said(before: Settings, after: Settings) -> None:
    merged = merge(before, after, differing(before, after))
    assert set(differing(merged.settings, after)) == set(merged.late)


@given(SETTINGS, SETTINGS)
def test_a_card_has_no_button_that_nobody_hears(before: Settings, after: Settings) -> None:
    found = merge(before, after, differing(before, after)).settings
    assert bool(found.notify.slack.signing_secret.get_secret_value()) <= bool(found.http.listen or found.http.webhook_listen)


@given(SETTINGS, SETTINGS)
def test_a_restart_brings_all_of_it(before: Settings, after: Settings) -> None:
    merged = merge(before, after, differing(before, after))
    again = merge(after, after, differing(merged.settings, after))
    assert again.settings == after
