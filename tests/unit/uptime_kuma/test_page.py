from typing import Any

import pytest
from pydantic import ValidationError

from reconciler.driver import Mark
from reconciler.errors import Permanent
from reconciler.resource import JSONObject, ResourceId
from reconciler_uptime_kuma.dialect import CLASSIC, MODERN, Dialect
from reconciler_uptime_kuma.marks import Tag
from reconciler_uptime_kuma.native import Links, page_tag
from reconciler_uptime_kuma.page import StatusPage, config, groups, live

MARK = Mark("lab/mail", "StatusPage", "mail")
ID = ResourceId("uptime-kuma", "StatusPage", "mail")
LINKS = Links("lab/mail", [{"id": 4, "name": "smtp"}, {"id": 5, "name": "imap"}], [])


def page(name: str = "Mail_Status", **spec: Any) -> StatusPage:
    return StatusPage.from_document({"metadata": {"name": name}, "spec": spec})[1]


def stored(spec: StatusPage, dialect: Dialect, tag: Tag) -> JSONObject:
    row = {"id": 1, "published": True, "description": None, **dialect.page}
    return {**config(spec, tag, row, (), dialect), "groups": [{"id": 1, **one} for one in groups(spec, {}, LINKS, ID)]}


@pytest.mark.parametrize("dialect", [CLASSIC, MODERN])
def test_what_is_written_is_read_back_as_wanted(dialect: Dialect) -> None:
    extra = {"rssTitle": "News"} if dialect.modern else {"googleAnalyticsId": "G-1"}
    shown = [{"name": "Ways in", "monitors": ["smtp", "imap"], "linked": ["imap"]}, {"name": "Empty"}]
    for spec in (page(), page(title="M", description="d", domains=["b", "a", "b"], custom_css="a{}", groups=shown, extra=extra)):
        tag = Tag(MARK, keys=tuple(spec.extra))
        row = stored(spec, dialect, tag)
        assert live(row, spec, tag, LINKS) == spec.canonical(lambda ref: "")
        assert page_tag(row) == tag
        assert str(MARK) not in f"{row['title']}{row['description']}{row['footerText']}", "readers do not see the mark"


def test_the_address_is_made_of_the_name() -> None:
    assert page().slug == "mail-status"
    assert page(slug="Post").slug == "post"
    assert page().stands_for() == "StatusPage mail-status"


def test_a_half_made_page_is_known_by_its_title() -> None:
    tag = page_tag({"title": str(MARK), "customCSS": None})
    assert tag is not None
    assert tag.mark == MARK


def test_a_group_that_keeps_its_heading_keeps_its_number() -> None:
    spec = page(groups=[{"name": "new"}, {"name": "old", "monitors": ["smtp"]}])
    before = {"groups": [{"id": 7, "name": "old"}, {"id": 8, "name": "gone"}]}
    assert [one.get("id") for one in groups(spec, before, LINKS, ID)] == [None, 7]
    with pytest.raises(Permanent, match="there is no Monitor 'pop'"):
        groups(page(groups=[{"name": "x", "monitors": ["pop"]}]), {}, LINKS, ID)


def test_what_this_page_does_not_know_of_a_row_is_sent_back_as_it_was() -> None:
    assert config(page(), Tag(MARK), {"published": False, "future": [1]}, (), MODERN)["future"] == [1]
    dropped = config(page(), Tag(MARK), {"rssTitle": "old", "analyticsId": "kept"}, {"rssTitle"}, MODERN)
    assert (dropped["rssTitle"], dropped["analyticsId"]) == (None, "kept")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"slug": "a b"}, "cannot be part of an address"),
        ({"slug": "-a"}, "cannot be part of an address"),
        ({"groups": [{"name": "a"}, {"name": "a"}]}, "two groups are called 'a'"),
        ({"groups": [{"name": "a", "monitors": ["x", "x"]}]}, "shows 'x' twice"),
        ({"groups": [{"name": "a", "linked": ["x"]}]}, "not among its monitors"),
        ({"groups": [{"name": ""}]}, "at least 1 character"),
        ({"theme": "pink"}, "Input should be 'auto'"),
        ({"extra": {"rssTitel": "x"}}, "did you mean rssTitle"),
        ({"custom_css": "/* reconciler:lab/mail:StatusPage/x */"}, "must not contain a mark"),
    ],
)
def test_a_wish_that_cannot_be_meant_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        page(**spec)


def test_a_setting_of_the_other_dialect_is_refused() -> None:
    with pytest.raises(Permanent, match=r"needs Uptime Kuma 2\.x, and this one is 1\.23"):
        config(page(extra={"rssTitle": "x"}), Tag(MARK), {}, (), CLASSIC)
    with pytest.raises(Permanent, match=r"needs Uptime Kuma 1\.23, and this one is 2\.x"):
        config(page(extra={"googleAnalyticsId": "x"}), Tag(MARK), {}, (), MODERN)
