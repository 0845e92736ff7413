"""The emulator's files against those that the real code wrote."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler_pfsense.emulator.configfile import Unreadable, dump, parse
from reconciler_pfsense.emulator.firewall import Firewall, missing_backend
from reconciler_pfsense.emulator.render import haproxy_cfg, label, rules

SHARED = Path(os.environ.get("RECONCILER_SHARED", Path(__file__).parents[4] / "shared"))
RECORDED = SHARED / "transcripts" / "pfsense"
CASES = sorted(path.name for path in RECORDED.glob("[0-9]*")) if RECORDED.is_dir() else []
recorded = pytest.mark.skipif(not CASES, reason="the recordings are not here; set RECONCILER_SHARED")
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def read(case: str, name: str) -> str:
    return (RECORDED / case / name).read_text("utf-8")


def one_line(text: str) -> str:
    """Both forms of an empty tag carry the same."""
    return re.sub(r"<(\w+)>\n\t*</\1>", r"<\1></\1>", text)


@recorded
@pytest.mark.parametrize("case", CASES)
def test_a_configuration_is_written_as_it_was_recorded(case: str) -> None:
    for name in ("before.xml", "after.xml"):
        text = read(case, name)
        again = dump(parse(text))
        if "<username>(system)" not in text:  # the hand-made start has no CDATA there
            assert one_line(again) == one_line(text)
        assert parse(again) == parse(text)


@recorded
@pytest.mark.parametrize("case", CASES)
def test_haproxy_and_rules_are_rendered_as_they_were_recorded(case: str) -> None:
    config = parse(read(case, "after.xml"))
    generated = re.compile(r"Generated on: .*")
    assert haproxy_cfg(config, NOW) == generated.sub("Generated on: 2026-01-02 03:04", read(case, "haproxy.cfg"))
    assert rules(config) == read(case, "rules.txt")


@recorded
def test_what_haproxy_refused_is_refused_without_haproxy_as_well() -> None:
    assert "unable to find required default_backend: 'mail_4190_ipvANY'" in missing_backend(
        read("11-frontend-missing-backend", "haproxy-refused.cfg")
    )
    assert "send-proxy-v3" in missing_backend(read("12-bad-advanced", "haproxy-refused.cfg"))
    assert missing_backend(read("01-empty-to-full", "haproxy.cfg")) == ""


@pytest.mark.parametrize(
    ("value", "text", "again"),
    [
        (True, "<x></x>", ""),
        (None, "<x></x>", ""),
        (5, "<x>5</x>", "5"),
        ("ä<&>\"'", "<x>&auml;&lt;&amp;&gt;&quot;&#039;</x>", None),
        ("Łź日", "<x>Łź日</x>", "Łź日"),
    ],
)
def test_values_are_written_as_pfsense_writes_them(value: object, text: str, again: str | None) -> None:
    written = dump({"x": value})
    assert text in written
    if again is None:
        with pytest.raises(Unreadable):
            parse(written)
    else:
        assert parse(written) == {"x": again}


def test_letters_survive_in_the_tags_that_are_cdata() -> None:
    words = "ä <&> \"' ]]> &amp; €"
    assert parse(dump({"descr": words, "statetype": words})) == {"descr": words, "statetype": words}


def test_empty_items_vanish_and_a_tag_that_is_no_list_may_not_stand_twice() -> None:
    assert parse("<pfsense><nat><rule></rule><rule><x>1</x></rule></nat></pfsense>") == {"nat": {"rule": [{"x": "1"}]}}
    with pytest.raises(Unreadable, match="twice"):
        parse("<pfsense><a>1</a><a>2</a></pfsense>")


def test_a_label_has_at_most_the_bytes_that_pf_takes() -> None:
    assert len(label("ü" * 100).encode("utf-8", "replace")) <= 65
    assert label("short") == "USER_RULE: short"


def saved(firewall: Firewall, second: int, words: str) -> None:
    """Write once while the present revision is of a second."""
    firewall.config["revision"] = {"time": str(second), "description": words}
    firewall.text = dump(firewall.config)
    firewall.save({**firewall.config, "n": words}, "x", "x")


def test_the_history_keeps_the_last_thirty_revisions_before_the_present_one() -> None:
    firewall = Firewall(dump({"system": {"hostname": "fw"}, "revision": {"time": "1"}}))
    for number in range(1, 41):
        saved(firewall, number, f"r{number}")
    assert {second: words for second, (words, _) in firewall.history.items()} == {number: f"r{number}" for number in range(11, 41)}
    assert [one["time"] for one in firewall.observe()["history"]] == [str(number) for number in range(40, 10, -1)]


def test_of_two_revisions_in_one_second_the_later_is_kept() -> None:
    firewall = Firewall(dump({"system": {"hostname": "fw"}, "revision": {"time": "1"}}))
    for words in ("one", "two"):
        saved(firewall, 7, words)
    ((second, (words, text)),) = firewall.history.items()
    assert (second, words) == (7, "two")
    assert "<n>one</n>" in text, "what is kept is the file as it was before the write"


def test_a_file_that_cannot_be_read_back_is_the_newest_copy_afterwards() -> None:
    firewall = Firewall(dump({"system": {"hostname": "fw"}, "revision": {"time": "1"}}))
    saved(firewall, 5, "older")
    saved(firewall, 6, "newer")
    firewall.save({**firewall.config, "name": "Grüße"}, "x", "x")
    assert firewall.config["n"] == "newer"
    assert "name" not in firewall.config


def test_the_parser_lowers_tags_keeps_blanks_and_leaves_out_what_is_false() -> None:
    assert parse("<pfsense><A> x </A><b>\t\n</b></pfsense>") == {"a": " x ", "b": ""}
    assert dump({"x": False, "y": "1"}) == '<?xml version="1.0"?>\n<pfsense>\n\t<y>1</y>\n</pfsense>\n'


def test_rules_show_negations_ranges_nested_aliases_and_both_families_and_nothing_that_is_disabled() -> None:
    aliases = [{"name": "outer", "type": "host", "address": "inner 10.0.0.3"}, {"name": "inner", "type": "host", "address": "10.0.0.1"}]
    forward = {"interface": "wan", "protocol": "tcp", "source": {"address": "inner", "not": ""}, "target": "10.0.0.1", "local-port": "3000"}
    forward |= {"destination": {"address": "192.0.2.1", "port": "2000-2010"}}
    rule = {"type": "block", "interface": "wan", "ipprotocol": "inet46", "source": {"any": ""}, "destination": {"any": ""}, "tracker": "1"}
    config = {"interfaces": {"wan": {"if": "em0"}}, "aliases": {"alias": aliases}}
    lines = rules({**config, "nat": {"rule": [forward]}, "filter": {"rule": [rule]}}).splitlines()
    assert "table <outer> {   10.0.0.1  10.0.0.3 } " in lines
    assert "rdr on em0 inet proto tcp from ! $inner to 192.0.2.1 port 2000:2010 -> 10.0.0.1 port 3000" in lines
    assert [line.split(" on ")[1].split()[1] for line in lines if line.startswith("block")] == ["inet", "inet6"]
    off = rules({**config, "nat": {"rule": [{**forward, "disabled": ""}]}, "filter": {"rule": [{**rule, "disabled": ""}]}})
    assert "rdr on" not in off
    assert "block" not in off
