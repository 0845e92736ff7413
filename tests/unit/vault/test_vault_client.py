"""What the server's refusals come to mean, with canned answers in the place of the network."""

import json
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from reconciler.driver import Scope
from reconciler.errors import DriverError, Permanent, Transient
from reconciler.resource import SecretValue
from reconciler_vault import tokens
from reconciler_vault.answers import Raced
from reconciler_vault.client import Vault
from reconciler_vault.config import VaultConfig
from reconciler_vault.kv import KV
from reconciler_vault.tokens import Token, TokenLife

SCOPE = Scope(owner="test/client")
Canned = tuple[int, Any, dict[str, str]]


class Wire(BaseAdapter):
    """Gives one canned answer after the other, the last one for ever, and keeps what it was sent."""

    def __init__(self, *answers: Canned) -> None:
        super().__init__()
        self.answers, self.sent = list(answers), list[requests.PreparedRequest]()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self.sent.append(request)
        status, body, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        response = requests.Response()
        response.status_code, response.url, response.request = status, str(request.url), request
        response.headers.update(headers)
        response.raw = BytesIO()
        response._content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        return response

    def close(self) -> None:
        pass


LOOKUP: Canned = (200, {"data": {"ttl": 0}}, {})


def vault(*answers: Canned) -> tuple[Vault, Wire]:
    """A client whose token was already looked up."""
    return opened({"method": "token", "token": "hvs.canary"}, LOOKUP, *answers)


def opened(auth: dict[str, str], *answers: Canned, clock: Callable[[], float] = time.monotonic) -> tuple[Vault, Wire]:
    """A client that gets these answers, one after the other."""
    wire = Wire(*answers)

    def session() -> requests.Session:
        made = requests.Session()
        made.mount("https://", wire)
        made.mount("http://", wire)
        return made

    config = VaultConfig.model_validate({"url": "https://vault", "auth": auth})
    return Vault(config, clock, session), wire


def refusal(status: int, *errors: str, **headers: str) -> DriverError:
    client, _ = vault((status, {"errors": list(errors)}, headers))
    with pytest.raises(DriverError) as caught:
        client.write("POST", "secret/data/a", {"data": {"k": "canary"}}, SCOPE)
    assert "canary" not in str(caught.value)
    assert str(caught.value).startswith("vault https://vault: ")
    return caught.value


@pytest.mark.parametrize(
    ("status", "words", "kind", "said"),
    [
        (503, "Vault is sealed", Transient, "sealed (503: Vault is sealed); unseal it"),
        (503, "namespace is sealed", Transient, "sealed"),
        (500, "local node not active but active cluster node not found", Transient, "no active node answers"),
        (472, "", Transient, "no active node answers"),
        (473, "", Transient, "no active node answers"),
        (501, "", Transient, "not initialised"),
        (412, "required index state not present", Transient, "412"),
        (429, "rate limit quota exceeded", Transient, "429"),
        (502, "upstream", Transient, "502"),
        (400, "check-and-set parameter did not match the current version", Raced, "the next pass looks again"),
        (400, "Upgrading from non-versioned to versioned data. This backend will be unavailable", Transient, "being upgraded"),
        (400, "custom_metadata validation failed: too long", Permanent, "400: custom_metadata validation failed: too long"),
        (400, "a sealed envelope is no trouble", Permanent, "a sealed envelope"),
        (404, 'no handler for route "secret/data/a"', Permanent, "check the mount"),
        (405, "1 error occurred:\n\t* unsupported operation\n\n", Permanent, "405: 1 error occurred: * unsupported operation"),
        (413, "request body too large", Permanent, "413"),
    ],
)
def test_a_refusal_means_what_its_status_and_words_say(status: int, words: str, kind: type[DriverError], said: str) -> None:
    error = refusal(status, words)
    assert type(error) is kind
    assert said in str(error)


def test_the_delay_is_kept_when_it_is_a_number_of_seconds() -> None:
    quota, dated = refusal(429, "quota", **{"Retry-After": "7"}), refusal(429, "quota", **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    assert isinstance(quota, Transient)
    assert isinstance(dated, Transient)
    assert (quota.retry_after, dated.retry_after) == (7, None)


def test_the_words_of_a_refused_value_stay_unsaid() -> None:
    client, _ = vault((400, {"errors": ["cannot parse canary-value"]}, {}))
    with pytest.raises(Permanent) as caught:
        client.write("POST", "secret/data/a", {"data": {}}, SCOPE, sensitive=True)
    assert "canary-value" not in str(caught.value)


def test_a_credential_that_the_server_quotes_is_not_passed_on() -> None:
    client, _ = vault((500, {"errors": ["cannot handle token hvs.canary"]}, {}))
    with pytest.raises(Transient) as caught:
        client.get("secret/metadata/a", SCOPE)
    assert "hvs.canary" not in str(caught.value)
    auth = {"method": "approle", "role_id": "r", "secret_id": "canary-secret-id"}
    client, _ = opened(auth, (400, {"errors": ["bad secret_id canary-secret-id"]}, {}))
    with pytest.raises(Permanent, match=r"login refused \(400\)") as refused:
        client.get("secret/metadata/a", SCOPE)
    assert "canary" not in str(refused.value)


ECHO: Canned = (500, {"errors": ["cannot handle token hvs.canary"]}, {})
DENIED: Canned = (403, {"errors": ["permission denied"]}, {})


@pytest.mark.parametrize("answers", [(ECHO,), (DENIED, ECHO)], ids=["of the call", "of the look whether it is dead"])
def test_a_token_that_is_quoted_at_any_step_stays_unsaid(answers: tuple[Canned, ...]) -> None:
    client, _ = vault(*answers)
    with pytest.raises(Transient) as caught:
        client.get("secret/metadata/a", SCOPE)
    assert "canary" not in str(caught.value)


def test_a_token_stays_unsaid_when_it_is_looked_up_first_and_when_it_is_renewed() -> None:
    client, _ = opened({"method": "token", "token": "hvs.canary"}, ECHO, ECHO)
    for step in (client.login, lambda: client.renewed(Token("hvs.canary"))):
        with pytest.raises(Transient, match="500") as caught:
            step()
        assert "canary" not in str(caught.value)
    assert "canary" not in repr(Token("hvs.canary"))


def test_the_librarys_own_words_stay_unsaid() -> None:
    def session() -> requests.Session:
        made = requests.Session()
        made.mount("https://", Broken())
        return made

    class Broken(BaseAdapter):
        def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
            raise requests.ConnectionError(f"cannot send {request.body!r} with {request.headers}")

        def close(self) -> None: ...

    config = VaultConfig.model_validate({"url": "https://vault", "auth": {"method": "token", "token": "hvs.canary"}})
    with pytest.raises(Transient, match="the connection failed") as caught:
        Vault(config, sessions=session).get("secret/metadata/a", SCOPE)
    assert "canary" not in str(caught.value)


def test_the_errors_are_understood_whatever_a_proxy_adds_to_the_content_type() -> None:
    client, _ = vault((503, {"errors": ["Vault is sealed"]}, {"Content-Type": "application/json; charset=utf-8"}))
    with pytest.raises(Transient, match="unseal it"):
        client.get("secret/metadata/a", SCOPE)


@pytest.mark.parametrize("page", ["<html>welcome</html>", "[]", '"text"', ""])
def test_an_answer_that_no_vault_gives_is_not_taken_for_emptiness(page: str) -> None:
    client, _ = vault((200, page, {}))
    with pytest.raises(Transient, match="the answer is not JSON"):
        client.get("secret/metadata/a", SCOPE)
    with pytest.raises(Transient, match="the answer is not JSON"):
        client.list("secret/metadata/a", SCOPE)


def test_a_standby_that_points_to_the_leader_is_followed_with_method_body_and_token() -> None:
    client, wire = vault((307, "", {"Location": "https://leader/v1/secret/data/a"}), (200, {"data": {"version": 1}}, {}))
    assert client.write("PATCH", "secret/data/a", {"data": {"k": "v"}}, SCOPE) == {"version": 1}
    last = wire.sent[-1]
    assert (last.method, last.url, last.headers["X-Vault-Token"]) == ("PATCH", "https://leader/v1/secret/data/a", "hvs.canary")
    assert last.headers["Content-Type"] == "application/merge-patch+json"
    assert json.loads(last.body or "") == {"data": {"k": "v"}}


@pytest.mark.parametrize("there", ["http://leader/v1/secret/data/a", "HTTP://vault/v1/secret/data/a"])
def test_neither_a_token_nor_a_value_follows_to_an_address_without_tls(there: str) -> None:
    client, wire = vault((307, "", {"Location": there}), (200, {"data": {"version": 1}}, {}))
    with pytest.raises(Permanent, match="points to an address without TLS"):
        client.write("PATCH", "secret/data/a", {"data": {"k": "v"}}, SCOPE)
    assert [str(one.url).partition(":")[0] for one in wire.sent] == ["https", "https"]


def test_a_standby_that_names_a_path_only_is_followed() -> None:
    client, wire = vault((307, "", {"Location": "/v1/other"}), (200, {"data": {"a": 1}}, {}))
    assert client.get("secret/data/a", SCOPE) == {"a": 1}
    assert wire.sent[-1].url == "https://vault/v1/other"


def test_the_words_about_a_value_stay_unsaid_where_nothing_is_there() -> None:
    client, _ = vault((404, {"errors": ["no handler for canary-value"]}, {}))
    with pytest.raises(Permanent, match="nothing is there") as caught:
        client.write("PATCH", "secret/data/a", {"data": {}}, SCOPE, sensitive=True)
    assert "canary-value" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 403, 404, 412, 422, 500, 503])
def test_whatever_a_server_says_of_a_value_that_it_was_sent_or_holds_stays_unsaid(status: int) -> None:
    mount: Canned = (200, {"data": {"path": "secret/", "type": "kv", "options": {"version": "2"}}}, {})
    echo: Canned = (status, {"errors": ["cannot take canary-value"], "data": {"data": "canary-value"}}, {})
    alive: Canned = (200, {"data": {"ttl": 0}}, {})
    calls: list[Callable[[KV], object]] = [
        lambda kv: kv.put("secret/a", {"k": SecretValue("canary-value")}, 0, SCOPE),
        lambda kv: kv.patch("secret/a", {"k": SecretValue("canary-value")}, 1, SCOPE),
        lambda kv: kv.read("secret/a", SCOPE),
    ]
    for call in calls[: 2 if status == 404 else 3]:
        client, _ = vault(mount, echo, *([alive] if status == 403 else []), echo)
        with pytest.raises(DriverError) as caught:
            call(KV(client))
        assert "canary" not in str(caught.value)


def test_a_value_that_is_no_text_is_given_as_json() -> None:
    mount: Canned = (200, {"data": {"path": "secret/", "type": "kv", "options": {"version": "2"}}}, {})
    client, _ = vault(mount, (200, {"data": {"data": {"a": {"b": True}, "c": "d"}, "metadata": {"version": 3}}}, {}))
    version, values = KV(client).read("secret/a", SCOPE) or ("", {})
    assert (version, {key: one.reveal() for key, one in values.items()}) == ("3", {"a": '{"b": true}', "c": "d"})


APPROLE = {"method": "approle", "role_id": "r", "secret_id": "s"}
FOUND: Canned = (200, {"data": {"a": 1}}, {})


def given(token: str) -> Canned:
    """The answer to a login or a renewal: a token of a minute."""
    return (200, {"auth": {"client_token": token, "lease_duration": 60, "renewable": True}}, {})


def logins(wire: Wire) -> int:
    return sum(str(one.url).endswith("/login") for one in wire.sent)


@pytest.mark.parametrize(
    "refusal",
    [
        (400, {"errors": ["lease is not renewable"]}, {}),
        (403, {"errors": ["permission denied"]}, {}),
        (200, {"auth": {"client_token": "one", "lease_duration": 0, "renewable": True}}, {}),
    ],
)
def test_a_token_that_is_renewed_no_longer_is_replaced_by_a_login_before_the_next_call(refusal: Canned) -> None:
    now = [1000.0]
    client, wire = opened(APPROLE, given("one"), FOUND, refusal, given("two"), FOUND, clock=lambda: now[0])
    client.tokens._ended.set()  # nothing in the background: time stands still here
    assert client.get("secret/metadata/a", SCOPE) == {"a": 1}
    now[0] += 45
    assert client.get("secret/metadata/a", SCOPE) == {"a": 1}
    assert (logins(wire), wire.sent[-1].headers["X-Vault-Token"]) == (2, "two")


def test_a_server_that_cannot_say_whether_a_token_lives_gets_no_second_login() -> None:
    sealed: Canned = (503, {"errors": ["Vault is sealed"], "initialized": True}, {})
    client, wire = opened(APPROLE, given("one"), (403, {"errors": ["permission denied"]}, {}), sealed)
    client.tokens._ended.set()
    with pytest.raises(Transient, match="sealed"):
        client.get("secret/metadata/a", SCOPE)
    assert logins(wire) == 1


def test_an_answer_to_a_login_that_carries_no_token_is_transient_trouble() -> None:
    client, _ = opened(APPROLE, (200, {"data": {}}, {}))
    with pytest.raises(Transient, match="carries no token"):
        client.get("secret/metadata/a", SCOPE)


def test_odd_names_are_quoted_and_a_listing_is_asked_for_in_plain_http() -> None:
    client, wire = vault((200, {"data": {"keys": ["a"]}}, {}))
    assert client.list("secret/metadata/reconciler/Secret/a~1b ü?#%", SCOPE) == ["a"]
    assert wire.sent[-1].method is not None
    assert wire.sent[-1].method.upper() == "GET"
    assert wire.sent[-1].url == "https://vault/v1/secret/metadata/reconciler/Secret/a~1b%20%C3%BC%3F%23%25?list=true"


class Giving:
    """Gives a token of so many seconds at every login, a minute at first, and renews none."""

    can_login, where = True, "vault"

    def __init__(self, now: Callable[[], float], *, renewable: bool = True, ttl: int = 60) -> None:
        self._now, self._renewable, self._ttl, self.logins = now, renewable, ttl, 0
        self.trouble: list[DriverError] = []

    def login(self) -> Token:
        self.logins += 1
        return Token.lasting(f"token-{self.logins}", self._ttl, self._now(), renewable=self._renewable)

    def renewed(self, token: Token) -> Token | None:
        if self.trouble:
            raise self.trouble.pop()
        return None

    def is_dead(self, token: Token) -> bool:
        raise AssertionError("nobody was refused")


def test_a_token_at_the_end_of_all_its_renewals_is_replaced_before_a_call_is_refused() -> None:
    time = [1000.0]
    source = Giving(lambda: time[0])
    life = TokenLife(source, lambda: time[0])
    life._ended.set()  # nothing in the background: time stands still here
    assert [life.good().value, life.good().value] == ["token-1", "token-1"]
    time[0] += 45
    assert life.good().value == "token-2"
    assert life.good().value == "token-2"


def test_a_token_that_cannot_be_renewed_is_replaced_at_nine_tenths_of_its_life_and_not_before() -> None:
    time = [1000.0]
    source = Giving(lambda: time[0], renewable=False)
    life = TokenLife(source, lambda: time[0])
    assert life.good().value == "token-1"
    time[0] += 53
    assert life.good().value == "token-1"
    time[0] += 2
    assert life.good().value == "token-2"


def test_in_the_background_trouble_is_waited_out_and_the_token_is_seen_to_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "FIRST_PAUSE", 0.01)
    source = Giving(time.monotonic, ttl=1)
    source.trouble = [Transient("vault: sealed"), Transient("vault: sealed")]
    life = TokenLife(source, time.monotonic)
    life.good()
    end = time.monotonic() + 10
    while source.logins < 2:
        assert time.monotonic() < end, "nobody saw to the token any more"
        time.sleep(0.01)
    life.close()


def test_the_pauses_between_two_tries_grow_to_five_minutes_and_no_further() -> None:
    life = TokenLife(Giving(time.monotonic), time.monotonic)
    for trouble, most in ((1, 5), (2, 10), (3, 20), (7, 300), (1000, 300)):
        assert most / 2 <= life.pause(trouble) <= most
