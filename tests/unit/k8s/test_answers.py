import json
from typing import Any

import pytest

from reconciler.errors import Conflict, Permanent, Transient
from reconciler_k8s.answers import FieldConflict, Forbidden, Invalid, NoDryRun, NotFound, failure


def body(message: str, reason: str = "", causes: list[dict[str, str]] | None = None, **details: Any) -> bytes:
    found: dict[str, Any] = {"kind": "Status", "message": message, "details": {**details, "causes": causes or []}}
    return json.dumps({**found, "reason": reason} if reason else found).encode()


TERMINATING = [{"reason": "NamespaceTerminating", "message": "namespace mail is being terminated"}]
OWNED = [{"reason": "FieldManagerConflict", "message": 'conflict with "x"', "field": ".data.a"}]
FIXED = [{"reason": "FieldValueInvalid", "message": "Invalid value: 1: field is immutable", "field": "spec.selector"}]


@pytest.mark.parametrize(
    ("code", "answer", "kind"),
    [
        (500, body("failed to create typed patch object (n/a; v1): .spec.typo: field not declared in schema"), Permanent),
        (500, body("failed to convert new object (n/a; v1)"), Permanent),
        (500, body("etcdserver: request timed out", "InternalError"), Transient),
        (403, body("unable to create new content", "Forbidden", TERMINATING), Transient),
        (403, body('User "x" cannot patch', "Forbidden"), Forbidden),
        (403, body('admission webhook "x" denied the request: no', "Forbidden"), Permanent),
        (403, body('pods "a" is forbidden: exceeded quota: q', "Forbidden"), Permanent),
        (403, b"<html>a proxy says no</html>", Forbidden),
        (400, body('admission webhook "x" does not support dry run', "BadRequest"), NoDryRun),
        (400, body("the body is wrong", "BadRequest"), Permanent),
        (404, body('namespaces "x" not found', "NotFound", kind="namespaces"), NotFound),
        (404, b"404 page not found\n", NotFound),
        (409, body("Apply failed with 1 conflict", "Conflict", OWNED), FieldConflict),
        (409, body("the object has been modified", "Conflict"), Conflict),
        (410, body("too old resource version", "Expired"), Transient),
        (422, body("is invalid", "Invalid", FIXED), Invalid),
        (429, body("too many requests", "TooManyRequests"), Transient),
        (502, b"<html>bad gateway</html>", Transient),
        (504, body("Timeout", "Timeout", retryAfterSeconds=1), Transient),
        (401, body("Unauthorized", "Unauthorized"), Permanent),
        (413, b"too large", Permanent),
    ],
)
def test_codes_and_causes_together_say_what_to_do(code: int, answer: bytes, kind: type[Exception]) -> None:
    assert type(failure("k8s/ConfigMap/n/a", code, answer)) is kind


def test_the_servers_own_delay_is_kept() -> None:
    header = failure("x", 429, b"", retry_after="7")
    told = failure("x", 504, body("Timeout", "Timeout", retryAfterSeconds=3))
    assert isinstance(header, Transient)
    assert isinstance(told, Transient)
    assert (header.retry_after, told.retry_after) == (7, 3)


def test_a_confidential_error_shows_reasons_and_fields_and_no_text() -> None:
    leak = body(
        '.stringData.a: expected string, got "hunter2"',
        "Invalid",
        [{"reason": "FieldValueInvalid", "message": "hunter2", "field": "data[a]"}],
    )
    said = str(failure("k8s/Secret/n/a", 422, leak, confidential=True))
    assert "data[a] (FieldValueInvalid)" in said
    assert "hunter2" not in said


def test_a_dumped_object_is_cut_out_of_the_message() -> None:
    dump = 'spec.template: Invalid value: "{' + "x" * 300 + '}": field is immutable'
    said = str(failure("k8s/Job/n/a", 422, body(dump, "Invalid")))
    assert "xxx" not in said
    assert said.endswith("field is immutable")


def test_a_credential_that_the_server_quotes_is_not_passed_on() -> None:
    body = {"kind": "Status", "message": "cannot process Authorization: Bearer hush-canary-4711, gzip", "reason": "InternalError"}
    error = failure("k8s/Pod/a", 500, json.dumps(body).encode())
    assert "hush-canary" not in str(error)
    assert "Bearer ***, gzip" in str(error)
