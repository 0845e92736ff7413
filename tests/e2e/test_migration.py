"""The mail path moves from a load balancer of its own to the firewall's proxy, in eight commits, with mail flowing, and all the way back.

One story is played once; each test then holds one promise against what was seen. The reports, the plans and the looks come from the real
engine and the real drivers on the embedded world; the repository is a real one, and every way back is a ``git revert``.
"""

import re
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from reconciler.driver import Action
from reconciler.report import Verdict
from reconciler_pfsense.emulator.firewall import Firewall
from tests.e2e.migration import wrong
from tests.e2e.migration.phases import OLD, PORTS, TRIED, Tree
from tests.e2e.migration.story import DESIRED, Story, without_143

ORDER = ("0 baseline", "1a listener", "3 proxy", "5 all ports", "4 flip", "6a monitors", "6b cluster", "6c alias")
INNER = "10.0.20.1"
BALANCER_OPEN = {(OLD, port) for port in PORTS.values()}

pytestmark = pytest.mark.timeout(900)  # the whole story is played before the first test: a minute alone, several on a busy machine


def play(story: Story) -> None:
    """Play every phase, with the commits in a wrong order before the one that they come too early for, then take all of them back."""
    tries = wrong_commits(story)
    for name in ORDER:
        story.commits[name] = story.commit(story.trees[name], name)
        if name == "6c alias":  # contradiction X10: nobody had thought of the forward of port 143
            story.try_too_early("alias while a forward of nobody's names it")
            story.at_the_gui(without_143)
        story.steps[name] = story.step()
        if name == "3 proxy":
            story.rebooted = Firewall(story.firewall.config_xml()).haproxy_cfg
        for what, tree in tries.get(name, {}).items():
            story.try_wrong(what, tree)
    for name in reversed(ORDER[1:]):
        story.git("revert", "--no-edit", story.commits[name])
        story.back[name] = story.step()


def wrong_commits(story: Story) -> dict[str, dict[str, Tree]]:
    """Give the wrong commits by the phase after which they are tried."""
    trees, last = story.trees, story.last
    return {
        "0 baseline": {
            "flip before anything": trees["0 baseline"].but(wrong.flip_with_its_gates(last)),
            "flip before the proxy": trees["0 baseline"].but(wrong.flip_at_once(last)),
            "proxy before the node ports": trees["0 baseline"].but(wrong.proxy_before_its_node_ports(last)),
        },
        "3 proxy": {
            "monitors before the proxy": trees["3 proxy"].but(wrong.monitors_before_the_proxy(last)),
            "header to a stock port": trees["5 all ports"].but(wrong.header_to_a_stock_port),
            "swapped node ports": trees["5 all ports"].but(wrong.swapped_node_ports),
        },
        "5 all ports": {
            "cluster before the flip": trees["5 all ports"].but(wrong.cluster_too_early(last)),
            "alias before the flip": trees["5 all ports"].but(wrong.alias_too_early),
        },
        "4 flip": {"cluster before the monitors": trees["4 flip"].but(wrong.cluster_too_early(last))},
        "6c alias": {
            "back before the balancer": last.but(wrong.back_before_the_balancer(trees["5 all ports"])),
            "back to an alias that is gone": last.but(wrong.back_to_an_alias_that_is_gone),
        },
    }


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with tempfile.TemporaryDirectory(prefix="migration-", ignore_cleanup_errors=True) as folder:
        story = Story(Path(folder))
        try:
            story.start()
            play(story)
            story.letters.stop()
            yield story
        finally:
            story.stop()


def test_the_last_phase_is_what_stands_in_desired_mail(story: Story) -> None:
    kept = Tree.read(DESIRED)
    (ours,), (theirs,) = story.last.documents["stack.yaml"], kept.documents["stack.yaml"]
    theirs["spec"]["vars"]["dkim"]["public_key"] = ours["spec"]["vars"]["dkim"]["public_key"]
    theirs["spec"]["health_deadline"] = ours["spec"]["health_deadline"]
    assert story.trees["6c alias"].documents == kept.documents


@pytest.mark.parametrize("phase", ORDER)
def test_each_commit_converges_from_the_one_before_and_leaves_nothing_to_do(story: Story, phase: str) -> None:
    step = story.steps[phase]
    assert step.report.verdict is Verdict.CONVERGED, step.report
    assert step.report.remaining.in_sync, "the second plan is empty"
    assert not step.report.health, "every gate is green"
    assert not step.asked, "the way there needs nobody's word"


def test_what_a_person_made_is_adopted_and_keeps_its_identity_to_the_end(story: Story) -> None:
    adopted = {str(one.id) for one in story.steps["0 baseline"].report.plan.changes if one.action is Action.ADOPT}
    assert {f"pfsense/PortForward/mailserver-{name}" for name in PORTS} | {"pfsense/Alias/mailserver"} <= adopted
    links = {f"nat_65f0c0ffee0002.0000000{number}" for number in range(4)}
    for step in (*story.steps.values(), *story.back.values()):
        assert links <= step.look.links
        assert set(step.look.monitors) == {282, 283}


@pytest.mark.parametrize("phase", ORDER[:4])
def test_until_the_flip_the_path_is_the_old_one(story: Story, phase: str) -> None:
    look = story.steps[phase].look
    assert set(look.forwards.values()) == {"$mailserver"}
    assert look.open >= BALANCER_OPEN
    assert not look.by_proxy


def test_the_proxy_is_tried_on_a_port_of_its_own_and_survives_a_reboot(story: Story) -> None:
    step = story.steps["3 proxy"]
    assert step.look.frontends == {"mailserver_trial"}
    assert (INNER, TRIED) in step.look.open
    assert set(step.look.servers.values()) == {"UP"}
    assert len(step.look.servers) == 4
    assert "frontend mailserver_trial" in story.rebooted


def test_then_all_ports_answer_inside_before_anything_leads_there(story: Story) -> None:
    look = story.steps["5 all ports"].look
    assert look.frontends == {f"mailserver_{name}" for name in PORTS}
    assert {(INNER, port) for port in PORTS.values()} <= look.open
    assert (INNER, TRIED) not in look.open
    assert len(look.servers) == 16
    assert set(look.servers.values()) == {"UP"}


def test_the_flip_is_one_transaction_and_leaves_the_old_path_alive(story: Story) -> None:
    step = story.steps["4 flip"]
    assert [sorted(edits) for edits in step.transactions] == [["filter/rule"] * 4 + ["nat/rule"] * 4]
    assert {port: target for port, target in step.look.forwards.items() if port != "143"} == dict.fromkeys(map(str, PORTS.values()), INNER)
    assert step.look.by_proxy
    assert step.look.open >= BALANCER_OPEN


def test_no_commit_needs_the_firewall_more_often_than_its_gates_demand(story: Story) -> None:
    written = {name: len(step.transactions) for name, step in story.steps.items()}
    assert written == {
        "0 baseline": 2,  # the alias, and behind the gate of its address the forwards
        "1a listener": 0,
        "3 proxy": 1,
        "5 all ports": 1,
        "4 flip": 1,
        "6a monitors": 0,
        "6b cluster": 0,
        "6c alias": 1,
    }


def test_monitors_move_when_the_path_has_moved(story: Story) -> None:
    assert {host for host, _ in story.steps["4 flip"].look.monitors.values()} == {OLD}
    assert story.steps["6a monitors"].look.monitors == {
        282: (INNER, "Mailserver HAProxy SMTP (pfSense :25)"),
        283: (INNER, "Mailserver HAProxy IMAPS (pfSense :993)"),
    }


def test_at_the_end_the_old_address_is_given_back_and_nobody_names_it(story: Story) -> None:
    look = story.steps["6c alias"].look
    assert story.steps["6b cluster"].look.service == look.service == "ClusterIP"
    assert not look.open & BALANCER_OPEN
    assert "mailserver" not in look.aliases
    assert look.by_proxy


WRONG = {
    "flip before anything": r"probe/SMTP/inside-smtp: refers to pfsense/HAProxyFrontend/mailserver_smtp, which this stack does not declare",
    "flip before the proxy": r"blocked: pfsense/PortForward/mailserver-smtp: waits for probe/SMTP/inside-smtp: degraded: \S+:25 refused",
    "proxy before the node ports": r"blocked: pfsense/HAProxyBackend/mailserver_nodes_smtp: waits for probe/SMTP/node-smtp: degraded",
    "monitors before the proxy": r"blocked: uptime-kuma/Monitor/haproxy-smtp: waits for probe/SMTP/inside-smtp: degraded",
    "header to a stock port": r"held by check: .*sends a PROXY header to node port 30126 .*, whose listener knows none",
    "swapped node ports": r"held by check: .*takes port 465, and its servers lead to port 587 of the Service",
    "cluster before the flip": r"held by check: .*leads to 10\.0\.20\.202, which k8s/Service/mailserver/mailserver is about to give up",
    "alias before the flip": r"held by check: .*refers to 'mailserver', and pfsense/Alias/mailserver is about to be deleted",
    "cluster before the monitors": r"held by check: .*Monitor/haproxy-\w+.* leads to 10\.0\.20\.202, which .* is about to give up",
    "alias while a forward of nobody's names it": r"failed: pfsense/Alias/mailserver: .*still used by: .*nat rule \d+ \(Mail 143\)",
    "back before the balancer": r"blocked: pfsense/PortForward/mailserver-smtp: waits for probe/SMTP/balancer-smtp: degraded: \S+ refused",
    "back to an alias that is gone": r"failed: pfsense/PortForward/mailserver-smtp: .*pf would skip rules.*restored and loaded",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_order_is_refused_or_held_with_the_reason_and_nothing_moves(story: Story, name: str) -> None:
    tried = story.wrong[name]
    assert any(re.search(WRONG[name], reason) for reason in tried.reasons), "\n".join(tried.reasons)
    assert tried.after.forwards == tried.before.forwards
    assert tried.after.monitors == tried.before.monitors
    assert tried.after.service == tried.before.service
    assert tried.after.by_proxy == tried.before.by_proxy
    assert tried.after.frontends == tried.before.frontends
    assert tried.after.open == tried.before.open


def test_every_commit_is_taken_back_by_git_revert_and_each_way_back_converges(story: Story) -> None:
    for before, name in pairwise(ORDER):
        step = story.back[name]
        assert step.tree == story.steps[before].tree, "git says again what it said"
        assert step.report.verdict is Verdict.CONVERGED, (name, step.report)
        assert step.report.remaining.in_sync
        then = story.steps[before].look
        here = {port: target for port, target in step.look.forwards.items() if port != "143"}
        assert here == {port: target for port, target in then.forwards.items() if port != "143"}
        assert (step.look.monitors, step.look.service, step.look.by_proxy, step.look.frontends, step.look.open) == (
            then.monitors,
            then.service,
            then.by_proxy,
            then.frontends,
            then.open,
        )


def test_a_way_back_that_deletes_much_waits_for_a_word(story: Story) -> None:
    """Taking back the ports deletes seven things at once, which the budget of the stack lets nobody do unasked."""
    asked = {name: step.asked for name, step in story.back.items() if step.asked}
    assert {"5 all ports", "3 proxy"} <= set(asked)
    assert "4 flip" not in asked
    assert all("exceed the change budget" in reason for reasons in asked.values() for reason in reasons)


def test_no_letter_is_lost_on_the_way_there_and_back(story: Story) -> None:
    letters = story.letters
    assert len(letters.sent) >= 50
    assert set(letters.sent) <= letters.arrived()
