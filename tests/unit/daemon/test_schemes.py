"""Whether a webhook is believed: every scheme, what must break it, and that nothing else is looked at."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.daemon.http.bodies import Refused
from reconciler.daemon.http.config import Scheme
from reconciler.daemon.http.hints import Hint, hint, interesting
from reconciler.daemon.http.schemes import verify

NOW = 1_790_000_000.0
BODY = b'{"ref": "refs/heads/main"}'
SECRET = "It's a Secret to Everybody"
SIGNING = "whsec_" + base64.b64encode(b"k" * 32).decode()
HMAC = {"github": ("x-hub-signature-256", "sha256="), "gitea": ("x-gitea-signature", ""), "forgejo": ("x-forgejo-signature", "")}
HMAC |= {"bitbucket": ("x-hub-signature", "sha256="), "hmac": ("x-signature", "sha256=")}
SCHEMES: tuple[Scheme, ...] = ("github", "gitea", "forgejo", "gitlab-token", "standard-webhooks", "bitbucket", "hmac")


def secret_of(scheme: str) -> str:
    return SIGNING if scheme == "standard-webhooks" else SECRET


def signed(scheme: str, body: bytes = BODY, secret: str = "", *, at: float = NOW, id: str = "msg_1") -> dict[str, str]:
    """The headers with which a sender proves itself."""
    secret = secret or secret_of(scheme)
    if scheme == "gitlab-token":
        return {"x-gitlab-token": secret, "x-gitlab-event": "Push Hook", "idempotency-key": id}
    if scheme == "standard-webhooks":
        text = b".".join((id.encode(), str(int(at)).encode(), body))
        signature = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), text, "sha256")
        stamp = {"webhook-id": id, "webhook-timestamp": str(int(at))}
        return {**stamp, "webhook-signature": f"v1,{base64.b64encode(signature).decode()}"}
    name, prefix = HMAC[scheme]
    return {name: prefix + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def believed(scheme: Scheme, headers: list[tuple[bytes, bytes]], body: bytes = BODY, *secrets: str, now: float = NOW) -> bool:
    try:
        verify(scheme, secrets or (secret_of(scheme),), headers, body, now)
    except Refused as refusal:
        return refusal.status != 401
    return True


def test_the_vector_that_github_publishes_is_believed() -> None:
    headers = [(b"x-hub-signature-256", b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")]
    assert believed("github", headers, b"Hello, World!")
    assert not believed("github", headers, b"Hello, World!\n")


@pytest.mark.parametrize("scheme", SCHEMES)
class TestEveryScheme:
    def test_believes_the_right_signature(self, scheme: Scheme) -> None:
        assert believed(scheme, raw(signed(scheme)))

    def test_refuses_a_wrong_secret(self, scheme: Scheme) -> None:
        other = "whsec_" + base64.b64encode(b"o" * 32).decode() if scheme == "standard-webhooks" else "another"
        assert not believed(scheme, raw(signed(scheme, secret=other)))

    def test_refuses_when_nothing_is_proved(self, scheme: Scheme) -> None:
        assert not believed(scheme, [])

    def test_refuses_each_header_that_it_needs_when_it_is_missing_empty_or_doubled(self, scheme: Scheme) -> None:
        proof = {name: value for name, value in signed(scheme).items() if name != "idempotency-key" and not name.endswith("-event")}
        for name in proof:
            rest = [pair for pair in raw(proof) if pair[0] != name.encode()]
            mine = (name.encode(), proof[name].encode())
            assert not believed(scheme, rest)
            assert not believed(scheme, [*rest, (name.encode(), b"")])
            assert not believed(scheme, [*rest, mine, mine])
            assert not believed(scheme, [*rest, (name.encode(), mine[1] + b", " + mine[1])])

    def test_refuses_bytes_that_are_not_ascii(self, scheme: Scheme) -> None:
        for name in signed(scheme):
            headers = [(key, b"sha256=\xff\xfe\xe9" if key == name.encode() else value) for key, value in raw(signed(scheme))]
            assert not believed(scheme, headers) or name in ("idempotency-key", "x-gitlab-event")

    def test_believes_either_of_two_secrets_while_one_replaces_the_other(self, scheme: Scheme) -> None:
        new = "whsec_" + base64.b64encode(b"n" * 32).decode() if scheme == "standard-webhooks" else "the new one"
        both = (new, secret_of(scheme))
        assert believed(scheme, raw(signed(scheme)), BODY, *both)
        assert believed(scheme, raw(signed(scheme, secret=new)), BODY, *both)
        assert not believed(scheme, raw(signed(scheme)), BODY, new)

    def test_refuses_what_proves_itself_to_another_scheme(self, scheme: Scheme) -> None:
        others = {name: value for other in SCHEMES if other != scheme for name, value in signed(other).items()}
        mine = signed(scheme)
        assert not believed(scheme, raw({name: value for name, value in others.items() if name not in mine}))

    def test_refuses_everything_when_the_secret_is_empty(self, scheme: Scheme) -> None:
        assert not believed(scheme, raw(signed(scheme, secret="whsec_" if scheme == "standard-webhooks" else " ")), BODY, "")


@given(st.sampled_from([one for one in SCHEMES if one != "gitlab-token"]), st.binary(max_size=200), st.data())
def test_no_body_but_the_signed_one_is_believed(scheme: Scheme, body: bytes, data: st.DataObject) -> None:
    """A token says nothing about the body, so the scheme that has only a token is not among these."""
    kind = data.draw(st.sampled_from(["flip", "cut", "grow", "other"]))
    if kind == "flip" and body:
        place = data.draw(st.integers(0, len(body) - 1))
        changed = body[:place] + bytes([body[place] ^ data.draw(st.integers(1, 255))]) + body[place + 1 :]
    elif kind == "cut" and body:
        changed = body[: data.draw(st.integers(0, len(body) - 1))]
    elif kind == "grow":
        changed = body + data.draw(st.binary(min_size=1, max_size=20))
    else:
        changed = data.draw(st.binary(max_size=200))
    assert believed(scheme, raw(signed(scheme, body)), body)
    assert believed(scheme, raw(signed(scheme, body)), changed) is (changed == body)


@given(st.sampled_from(SCHEMES), st.text(max_size=80))
def test_no_signature_but_the_right_one_is_believed(scheme: Scheme, text: str) -> None:
    right = signed(scheme)
    for name in [one for one in right if "signature" in one or "token" in one]:
        headers = [(key, text.encode() if key == name.encode() else value) for key, value in raw(right)]
        same = text.strip() == right[name]
        assert not believed(scheme, headers) or same


@pytest.mark.parametrize("scheme", ["github", "gitea", "forgejo", "bitbucket", "hmac"])
def test_a_hexadecimal_signature_may_be_in_capitals_and_must_be_whole(scheme: Scheme) -> None:
    ((name, value),) = signed(scheme).items()
    prefix = HMAC[scheme][1]
    digits = value.removeprefix(prefix)
    assert believed(scheme, raw({name: prefix + digits.upper()}))
    assert not believed(scheme, raw({name: prefix + digits[:-2]}))
    assert not believed(scheme, raw({name: prefix + digits + "00"}))
    assert not believed(scheme, raw({name: f"{prefix}0x{digits}"}))
    assert not believed(scheme, raw({name: f"sha1={digits[:40]}"}))
    assert not believed(scheme, raw({name: digits if prefix else f"sha256={digits}"}))


def test_an_empty_secret_of_forgejo_signs_with_empty_headers_which_are_refused() -> None:
    assert not believed("forgejo", [(b"x-forgejo-signature", b""), (b"x-hub-signature-256", b"sha256=")])
    assert not believed("github", [(b"x-hub-signature-256", b"sha256=")])


def test_the_generic_scheme_takes_sha512_and_nothing_weaker() -> None:
    strong = hmac.new(SECRET.encode(), BODY, hashlib.sha512).hexdigest()
    assert believed("hmac", [(b"x-signature", b"sha512=" + strong.encode())])
    for weak in ("sha1", "sha224", "sha384", "md5"):
        text = hmac.new(SECRET.encode(), BODY, weak).hexdigest()
        assert not believed("hmac", [(b"x-signature", f"{weak}={text}".encode())])


class TestAStandardWebhook:
    def test_is_refused_when_its_time_is_more_than_five_minutes_away(self) -> None:
        headers = raw(signed("standard-webhooks"))
        for away, well in ((299, True), (-299, True), (301, False), (-301, False)):
            assert believed("standard-webhooks", headers, now=NOW + away) is well

    def test_signs_its_id_and_its_time_too(self) -> None:
        for name, value in (("webhook-id", "msg_2"), ("webhook-timestamp", str(int(NOW) + 1)), ("webhook-timestamp", "soon")):
            assert not believed("standard-webhooks", raw({**signed("standard-webhooks"), name: value}))

    def test_is_believed_when_one_of_its_signatures_is_right(self) -> None:
        right = signed("standard-webhooks")
        other = base64.b64encode(b"0" * 32).decode()
        assert believed("standard-webhooks", raw({**right, "webhook-signature": f"v1a,x v1,{other} {right['webhook-signature']}"}))
        assert not believed("standard-webhooks", raw({**right, "webhook-signature": f"v1a,x v1,{other} v2,{other} v1,***"}))


class TestAHint:
    @pytest.mark.parametrize(
        ("body", "repository", "branches"),
        [
            (b'{"ref": "refs/heads/main", "repository": {"full_name": "me/infra"}}', "me/infra", ("main",)),
            (b'{"ref": "refs/tags/v1", "project": {"path_with_namespace": "g/s/infra"}}', "g/s/infra", ("v1",)),
            (
                b'{"repository": {"full_name": "me/i"}, "push": {"changes": [{"new": {"name": "a"}}, {"old": {"name": "b"}}]}}',
                "me/i",
                ("a", "b"),
            ),
            (
                b'{"repository": {"slug": "i", "project": {"key": "ME"}}, "changes": [{"refId": "refs/heads/main"}]}',
                "ME/i",
                ("main",),
            ),
            (b'{"push": 7, "changes": {"a": 1}, "repository": [], "project": null, "ref": 5}', "", ()),
        ],
    )
    def test_is_read_in_the_words_of_each_forge(self, body: bytes, repository: str, branches: tuple[str, ...]) -> None:
        assert hint(body, "application/json", strict=True) == Hint(repository, branches)

    def test_is_read_from_a_form_too(self) -> None:
        form = b"payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D"
        assert hint(form, "application/x-www-form-urlencoded; charset=utf-8", strict=True).branches == ("main",)

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"7"])
    def test_that_is_no_object_is_refused_where_a_forge_must_send_one(self, body: bytes) -> None:
        for kind in ("application/json", "application/x-www-form-urlencoded"):
            with pytest.raises(Refused) as caught:
                hint(body, kind, strict=True)
            assert caught.value.status == 400
        assert hint(body, "text/plain", strict=False) == Hint()

    def test_concerns_whatever_it_does_not_exclude(self) -> None:
        assert Hint().concerns("me/infra", "main")
        assert Hint("Me/Infra", ("main", "other")).concerns("me/infra", "main")
        assert not Hint("me/other").concerns("me/infra", "")
        assert not Hint("me/infra", ("feature",)).concerns("me/infra", "main")
        assert Hint("any/thing", ("feature",)).concerns("", "")

    def test_is_worth_a_look_for_a_push_or_a_request_and_not_for_a_star(self) -> None:
        assert all(interesting(one) for one in ("", "push", "Push Hook", "repo:push", "pull_request", "pullrequest:updated"))
        assert not any(interesting(one) for one in ("star", "issues", "Note Hook", "repo:fork"))
