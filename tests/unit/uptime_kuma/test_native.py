import json
from typing import Any

import pytest

from reconciler.driver import Mark
from reconciler.errors import Permanent
from reconciler.resource import JSONObject, ResourceId, SecretRef
from reconciler_uptime_kuma.answers import accepted, safe
from reconciler_uptime_kuma.dialect import CLASSIC, COMPUTED, MANAGED, MODERN, Dialect
from reconciler_uptime_kuma.marks import Tag
from reconciler_uptime_kuma.native import VEIL, Links, monitor_live, monitor_payload, notification_config, notification_live, resets
from reconciler_uptime_kuma.spec import Monitor, Notification

TOKEN = SecretRef('${vault("a", "b")}', (("a", "b"),))
NOBODY = Links("lab/mail", [], [])


def monitor(**fields: Any) -> Monitor:
    return Monitor(**{"title": "t", "type": "port", "hostname": "a", "port": 25, **fields})


def row(spec: Monitor, dialect: Dialect = MODERN, **fields: Any) -> JSONObject:
    payload = monitor_payload(spec, dialect, lambda ref: "value")
    return {**dialect.defaults, **payload, "id": 1, "active": spec.active, "parent": None, "description": "", **fields}


def tag(**fields: Any) -> Tag:
    return Tag(Mark("lab/mail", "Monitor", "smtp"), **fields)


SPECS = [
    monitor(),
    monitor(type="http", hostname="", port=None, url="https://a/", method="POST", accepted_statuscodes=["301"]),
    monitor(type="json-query", hostname="", port=None, url="https://a/", json_path="$.x", json_path_operator=">", expected_value="1"),
    monitor(type="dns", port=None, dns_resolve_type="mx", dns_resolve_server="9.9.9.9"),
    monitor(type="push", hostname="", port=None, push_token="tok"),
    monitor(type="group", hostname="", port=None, timeout=0, upside_down=True, active=False, interval=20, max_retries=3),
    monitor(extra={"ignoreTls": True, "packetSize": 60, "basic_auth_user": "u"}),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.type)
def test_what_is_written_is_read_back_as_wanted(spec: Monitor) -> None:
    assert monitor_live(row(spec), spec, tag(), NOBODY) == spec.canonical(lambda ref: "")


def test_in_1_23_the_operator_is_neither_written_nor_compared() -> None:
    spec = SPECS[2]
    assert "jsonPathOperator" not in monitor_payload(spec, CLASSIC, str)
    assert monitor_live(row(spec, CLASSIC), spec, tag(), NOBODY)["json_path_operator"] == "=="


def test_in_2x_a_missing_operator_is_drift_because_such_a_check_always_fails() -> None:
    spec = SPECS[2]
    assert monitor_live(row(spec, jsonPathOperator=None), spec, tag(), NOBODY)["json_path_operator"] == ""


def test_the_columns_are_sorted_into_three_heaps_without_overlap() -> None:
    assert not MANAGED & COMPUTED
    assert not MODERN.defaults.keys() & (MANAGED | COMPUTED)
    assert len(CLASSIC.defaults) + len(MANAGED - {"jsonPathOperator"}) + len(COMPUTED - {"path"}) == 83
    assert len(MODERN.defaults) + len(MANAGED) + len(COMPUTED) == 119


def test_the_dialect_is_told_by_the_database_and_not_by_the_version() -> None:
    assert Dialect.of({"version": "2.0.0-dev.0"}) is CLASSIC
    assert Dialect.of({"version": "3.1", "dbType": "mariadb"}) is MODERN


@pytest.mark.parametrize(
    ("fields", "field", "value"),
    [
        ({"hostname": None}, "hostname", ""),
        ({"hostname": " a "}, "hostname", "a"),
        ({"interval": "60"}, "interval", 60),
        ({"upsideDown": 1}, "upside_down", True),
        ({"url": "https://left-over/"}, "url", ""),
        ({"keyword": None}, "keyword", ""),
        ({"accepted_statuscodes": ["301", "200-299", "301"]}, "accepted_statuscodes", ["200-299", "301"]),
        ({"active": 0, "forceInactive": True}, "active", True),
        ({"active": 0, "forceInactive": False}, "active", False),
        ({"notificationIDList": {"3": True, "4": False}}, "notifications", ["#3"]),
        ({"parent": 9}, "parent", "#9"),
    ],
)
def test_a_spelling_of_the_server_is_no_drift(fields: JSONObject, field: str, value: Any) -> None:
    spec = monitor()
    assert monitor_live(row(spec, **fields), spec, tag(), NOBODY)[field] == value


def test_a_secret_is_shown_as_its_stored_fingerprint() -> None:
    spec = monitor(type="push", hostname="", port=None, push_token=TOKEN)
    assert monitor_live(row(spec), spec, tag(secrets={"push_token": "f1"}), NOBODY)["push_token"] == "secret:f1"


@pytest.mark.parametrize("wish", [TOKEN, "another", None])
def test_a_live_value_that_may_be_a_secret_is_never_shown(wish: Any) -> None:
    stored = row(monitor(type="push", hostname="", port=None, push_token="canary"))
    wanted = monitor(type="push", hostname="", port=None, push_token=wish) if wish else None
    assert monitor_live(stored, wanted, None, NOBODY)["push_token"] == VEIL
    extra = row(monitor(extra={"basic_auth_pass": "canary"}))
    assert "canary" not in str(monitor_live(extra, monitor(extra={"basic_auth_pass": wish}), None, NOBODY))


def test_a_veiled_value_is_not_written() -> None:
    payload = monitor_payload(monitor(type="push", hostname="", port=None, push_token="secret:f1", extra={"tlsKey": VEIL}), MODERN, str)
    assert not payload.keys() & {"pushToken", "tlsKey"}
    channel = Notification(title="hook", type="webhook", config={"webhookURL": "secret:f1", "key": VEIL, "webhookContentType": "json"})
    written = notification_config(channel, Tag(Mark("lab/mail", "Notification", "hook")), str)
    assert not written.keys() & {"webhookURL", "key"}
    assert (written["webhookContentType"], written["applyExisting"]) == ("json", False), "nor is it put on every monitor there is"


def test_an_extra_column_of_ours_that_git_dropped_is_seen_and_reset() -> None:
    stored = row(monitor(extra={"ignoreTls": True, "maxredirects": 10}))
    ours = tag(keys=("ignoreTls", "maxredirects"))
    assert monitor_live(stored, monitor(), ours, NOBODY)["extra"] == {"ignoreTls": True}, "maxredirects has its default already"
    assert resets(stored, monitor(), ours, MODERN) == {"ignoreTls": False, "maxredirects": 10}


def test_an_extra_column_of_somebody_else_is_not_ours() -> None:
    assert monitor_live(row(monitor(extra={"ignoreTls": True})), monitor(), tag(), NOBODY)["extra"] == {}


def test_a_notification_that_cannot_be_read_is_no_failure() -> None:
    seen = notification_live({"id": 1, "name": None, "config": "{", "isDefault": 0}, Notification(title="a", type="slack"), None)
    assert seen == {"title": "", "type": "", "config": {}, "default": False}


class TestNames:
    ID = ResourceId("uptime-kuma", "Monitor", "smtp")
    ROWS = (
        {"id": 1, "name": "Mail", "description": "reconciler:lab/mail:Monitor/mail"},
        {"id": 2, "name": "Mail", "description": "reconciler:lab/mail:Monitor/mail"},
        {"id": 3, "name": "mail", "description": None},
        {"id": 4, "name": "By hand", "description": "reconciler:other/stack:Monitor/mail"},
        {"id": 5, "name": "Twin", "description": None},
        {"id": 6, "name": "Twin", "description": None},
    )
    LINKS = Links("lab/mail", ROWS, ())

    def test_ours_comes_first_and_of_copies_the_lowest(self) -> None:
        assert self.LINKS.parent_id("mail", self.ID) == 1

    def test_what_is_not_ours_is_called_by_its_title(self) -> None:
        assert (self.LINKS.parent(4), self.LINKS.parent_id("By hand", self.ID)) == ("By hand", 4)

    @pytest.mark.parametrize(
        ("name", "message"), [("Twin", "2 objects of kind Monitor are called"), ("none", "there is no Monitor 'none'")]
    )
    def test_a_name_that_is_not_clear_is_refused(self, name: str, message: str) -> None:
        with pytest.raises(Permanent, match=message):
            self.LINKS.parent_id(name, self.ID)


@pytest.mark.parametrize(
    "text",
    [
        "insert into `monitor` (`push_token`) values ('canary') - SQLITE_ERROR: table monitor has no column named x",
        "update `monitor` set `x` = 'canary - canary' where `id` = 1 - SQLITE_BUSY: database is locked",
        "insert into `status_page` (`slug`) values ('canary') - Duplicate entry 'canary' for key 'slug'",
        "insert into `status_page` (`slug`) values ('canary') - Duplicate entry 'it's - canary' for key 'slug'",
        "insert into `status_page` (`slug`) values ('canary') - Duplicate entry 'a - 'b' canary' for key 'slug'",
        "insert into `status_page` (`slug`) values ('canary') - Duplicate entry 'a - canary 'b' c' for key 'slug'",
        "update `monitor` set `port` = 'canary' - Incorrect integer value: 'canary' for column `kuma`.`monitor`.`port` at row 1",
        "Headers must be valid JSON: Unexpected token 'o', \"canary\" is not valid JSON",
    ],
)
def test_an_error_text_loses_every_value_that_it_echoes(text: str) -> None:
    assert "canary" not in safe(text)
    assert safe(text)


def test_a_quotation_in_a_value_opens_nothing_and_every_refusal_is_made_safe() -> None:
    assert "canary" not in safe(json.dumps({"body": json.dumps({"password": "canary"})}))
    with pytest.raises(Permanent, match="no column named x") as caught:
        accepted("u", "saveStatusPage", {"ok": False, "msg": "insert into `status_page` values ('canary') - no column named x"})
    assert "canary" not in str(caught.value)


def test_an_error_text_still_says_what_is_wrong_and_where() -> None:
    said = safe("insert into `status_page` (`slug`) values ('x') - Duplicate entry 'x' for key 'slug'")
    assert said == "Duplicate entry '…' for key 'slug'"
    said = safe("insert into `monitor` (`name`) values ('x') - Data too long for column 'name' at row 1")
    assert said == "Data too long for column 'name' at row 1"
