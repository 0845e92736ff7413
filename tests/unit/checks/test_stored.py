"""What is told of stored secrets fits the rest of the stack: hosts, public halves, shapes. No rule ever sees a value."""

import pytest

from tests.unit.checks.stacks import ED25519, RSA_1024, RSA_2048, broken, found, said, whole

PLACE = ("secret/mail", "sasl_passwd")
KEY = """
apiVersion: vault/v1
kind: Secret
metadata: {name: dkim}
spec:
  path: secret/dkim
  keys:
    private: {form: private-key, published_by: cloudflare/DNSRecord/dkim, consumers: [rspamd]}
"""


def test_credentials_of_the_relay_in_use_and_secrets_of_which_nothing_is_told_are_right() -> None:
    assert not found(whole(), facts={})
    assert not found(whole(), facts={PLACE: {"hosts": "[smtp-relay.brevo.com]:587"}})
    assert not found(whole(), facts={PLACE: {"hosts": "[other.example.org]:25 [smtp-relay.brevo.com]:587"}})


@pytest.mark.parametrize("hosts", ["[smtp.mailgun.org]:587", "[smtp-relay.brevo.com]:2525", "smtp.mailgun.org"])
def test_credentials_of_another_relay_hold_commits_and_both_are_named(hosts: str) -> None:
    (finding,) = found(whole(), facts={PLACE: {"hosts": hosts}})
    assert (finding.severity.value, finding.rule) == ("error", "relay-stored")
    assert str(finding).startswith(
        f"vault/Secret/mail: secret/mail#sasl_passwd names {hosts}, the relay in use is [smtp-relay.brevo.com]:587 ["
    )


def test_a_value_of_the_wrong_shape_is_told_where_it_is_declared() -> None:
    fault = {"fault": "is no password map: a line is a host and user:password"}
    assert said(found(whole(), facts={PLACE: fault})) == [("warning", "secret-shape", "vault/Secret/mail")]


def test_the_public_half_of_a_stored_key_is_the_one_that_is_published() -> None:
    stack, place = broken(more=KEY), ("secret/dkim", "private")
    assert not found(stack, facts={place: {"type": "rsa", "public": RSA_2048}})
    for other in (RSA_1024, ED25519):
        (finding,) = found(stack, facts={place: {"type": "rsa", "public": other}})
        assert (finding.severity.value, finding.rule, str(finding.resource)) == ("error", "dkim-private", "cloudflare/DNSRecord/dkim")
        assert f"p={other}" in finding.message


def test_a_record_that_is_split_with_blanks_still_publishes_the_key() -> None:
    spaced = RSA_2048[:100] + " " + RSA_2048[100:]
    stack = broken((f"p={RSA_2048}", f"p={spaced}"), more=KEY)
    assert not [one for one in found(stack, facts={("secret/dkim", "private"): {"public": RSA_2048}}) if one.rule == "dkim-private"]


def test_a_record_that_the_stack_does_not_have_publishes_nothing() -> None:
    stack = broken(more=KEY.replace("DNSRecord/dkim", "DNSRecord/gone"))
    assert said(found(stack)) == [("warning", "dkim-private", "vault/Secret/dkim")]
