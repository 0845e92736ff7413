"""The bars of a large firewall: how often it is asked, and what a plan costs us. Processor time, several times below its bar."""

from benchmarks.bench_pfsense import measure


def test_a_large_firewall_keeps_its_bars() -> None:
    figures = measure()
    assert len(figures) == 4
    assert [one for one in figures if float(str(one["value"])) >= float(str(one["bar"]))] == []
