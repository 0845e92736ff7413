"""What may be told of stored secrets, held against the rest: a published key and the private key that signs are one pair."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from reconciler.checks import check
from reconciler.checks.dkim import material, pair
from reconciler.checks.view import Record
from reconciler.resource import ResourceId
from tests.unit.checks.stacks import RSA_2048, broken, recorded, whole
from tests.unit.checks.stacks import said as said_all

MINE, OTHER = rsa.generate_private_key(65537, 2048).public_key(), rsa.generate_private_key(65537, 2048).public_key()
EDWARDS = ed25519.Ed25519PrivateKey.generate().public_key()
RAW = base64.b64encode(EDWARDS.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def der(key: rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey) -> str:
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def pem(key: rsa.RSAPublicKey | ed25519.Ed25519PublicKey, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> str:
    return key.public_bytes(Encoding.PEM, form).decode()


def said(content: str, public: str) -> list[tuple[str, str]]:
    record = Record(ResourceId("cloudflare", "DNSRecord", "dkim"), "example.com", "mail._domainkey.example.com", "TXT", content)
    found = list(pair(record, public, "secret/mail#key"))
    assert {(one.rule, one.resource) for one in found} <= {("dkim-private", record.id)}
    return [(one.severity.value, one.message) for one in found]


@pytest.mark.parametrize(
    "content", [f"v=DKIM1; h=sha256; k=rsa; p={der(MINE)}", f"p={der(MINE)[:100]} {der(MINE)[100:]}"], ids=["whole", "split"]
)
@pytest.mark.parametrize(
    "public",
    [
        pem(MINE),
        pem(MINE, PublicFormat.PKCS1),
        der(MINE),
        f"\n{pem(MINE)}\n\n",
        "\n".join(der(MINE)[at : at + 64] for at in range(0, 400, 64)),
    ],
    ids=["pem", "pkcs1", "der", "blanks", "lines"],
)
def test_two_halves_of_one_rsa_key_are_a_pair_however_they_are_written(content: str, public: str) -> None:
    assert said(content, public) == []


@pytest.mark.parametrize("public", [pem(EDWARDS), der(EDWARDS), RAW, f" {RAW}\n"], ids=["pem", "der", "raw", "blanks"])
def test_two_halves_of_one_ed25519_key_are_a_pair_however_they_are_written(public: str) -> None:
    assert said(f"v=DKIM1; k=ed25519; p={RAW}", public) == []


def test_a_key_that_was_rotated_in_one_place_is_an_error_that_says_what_to_publish() -> None:
    message = f"has not the public half of secret/mail#key; every signature would fail. Publish k=rsa; p={der(MINE)}"
    assert said(f"v=DKIM1; k=rsa; p={der(OTHER)}", pem(MINE)) == [("error", message)]


def test_a_key_of_another_kind_is_an_error() -> None:
    ((severity, message),) = said(f"v=DKIM1; k=rsa; p={der(MINE)}", pem(EDWARDS))
    assert (severity, message.rpartition(". Publish ")[2]) == ("error", f"k=ed25519; p={RAW}")


def test_a_right_key_under_a_wrong_kind_is_an_error() -> None:
    assert said(f"v=DKIM1; p={RAW}", RAW) == [("error", "says k=rsa, and secret/mail#key is ed25519")]


def test_a_revoked_key_that_somebody_still_signs_with_is_an_error() -> None:
    assert said("v=DKIM1; p=", pem(MINE)) == [("error", f"is revoked, and secret/mail#key signs for it; publish p={der(MINE)}")]


@pytest.mark.parametrize("public", ["", "not a key", "AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_a_public_half_that_cannot_be_read_says_nothing(public: str) -> None:
    assert said(f"v=DKIM1; k=rsa; p={der(MINE)}", public) == []


@pytest.mark.parametrize("content", ["v=DKIM1; k=rsa", f"v=DKIM1; p={der(MINE)[:200]}", "no tags at all"], ids=["none", "cut", "text"])
def test_a_record_that_is_no_key_is_left_to_the_rules_of_keys(content: str) -> None:
    assert said(content, pem(MINE)) == []


def test_a_key_that_no_verifier_knows_is_none() -> None:
    assert material(der(ec.generate_private_key(ec.SECP256R1()).public_key())) is None


DECLARED = """
    dkim_key:
      form: private-key
      published_by: cloudflare/DNSRecord/dkim
      consumers: [a person]
    sasl_passwd:
"""
FACTS = ("secret/mail", "dkim_key")


def declared(public: str, place: str = "dkim") -> list[tuple[str, str, str]]:
    """Check a stack whose signing key is stored, of which the store tells the public half."""
    stack = broken(("\n    sasl_passwd:\n", DECLARED.replace("DNSRecord/dkim", f"DNSRecord/{place}")))
    return said_all([one for one in check(stack, resolver=recorded, facts={FACTS: {"public": public}}) if one.rule == "dkim-private"])


def test_a_stored_key_is_held_against_the_record_that_publishes_it() -> None:
    assert declared(RSA_2048) == []
    assert declared(der(MINE)) == [("error", "dkim-private", "cloudflare/DNSRecord/dkim")]


def test_a_record_that_the_stack_has_not_publishes_nothing() -> None:
    assert declared(RSA_2048, "other") == [("warning", "dkim-private", "vault/Secret/mail")]


def test_a_key_of_which_nothing_is_told_is_not_judged() -> None:
    assert declared("") == []


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"hosts": "[smtp-relay.brevo.com]:587"}, []),
        ({"hosts": "[other.example.net]:587 [smtp-relay.brevo.com]:587"}, []),
        ({"hosts": "[smtp.mailgun.org]:587"}, [("error", "relay-stored", "vault/Secret/mail")]),
        ({"hosts": "[smtp-relay.brevo.com]:2525"}, [("error", "relay-stored", "vault/Secret/mail")]),
        ({"fault": "does not match its pattern"}, [("warning", "secret-shape", "vault/Secret/mail")]),
        ({}, []),
    ],
)
def test_what_is_told_of_stored_credentials_is_held_against_the_relay(told: dict[str, str], expected: list[tuple[str, str, str]]) -> None:
    findings = check(whole(), resolver=recorded, facts={("secret/mail", "sasl_passwd"): told})
    assert said_all(findings) == expected
