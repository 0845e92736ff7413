"""What fails again and again is tried less and less often, and at once when it is another change."""

import itertools

from reconciler.driver import Status
from reconciler.errors import Permanent
from reconciler.report import Verdict
from reconciler.resting import MOST
from tests.unit.core.memory import Bench, thing

NO = Permanent("mem/Thing/a: 403 not allowed; grant the right")


def tries(bench: Bench, seconds: float, wish: str, *, looks: int) -> list[float]:
    """Look every ``seconds``, refuse every write, and give the times at which one was tried."""
    found = []

    def refuse(name: str) -> None:
        found.append(bench.time.seconds)
        raise NO

    bench.system.before_write = refuse
    for _ in range(looks):
        bench.run(wish)
        bench.time.seconds += seconds
    return found


def test_a_change_that_fails_again_and_again_is_tried_less_and_less_often() -> None:
    bench = Bench()
    times = tries(bench, 5, thing("a"), looks=200)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[:4] == [5, 10, 20, 40]
    assert max(gaps) <= MOST


def test_what_rests_is_no_success_and_says_for_how_long_and_why() -> None:
    bench = Bench()
    tries(bench, 0, thing("a"), looks=2)
    report = bench.run(thing("a"))
    assert report.verdict is Verdict.FAILED
    (stuck,) = report.remaining.stuck
    assert (stuck.status, stuck.resting) == (Status.BLOCKED, True)
    assert stuck.reason.startswith("failed 2 times and rests for 10 s more")
    assert "grant the right" in stuck.reason


def test_another_change_of_the_same_resource_is_tried_at_once() -> None:
    bench = Bench()
    tries(bench, 0, thing("a"), looks=3)
    bench.system.before_write = lambda name: None
    assert bench.run(thing("a", text="new")).verdict is Verdict.CONVERGED


def test_others_of_the_stack_go_on_and_dependents_wait() -> None:
    bench = Bench()
    wish = thing("a") + thing("b", needs=["a"]) + thing("c")

    def refuse(name: str) -> None:
        if name == "Thing/a":
            raise NO

    bench.system.before_write = refuse
    for _ in range(3):
        report = bench.run(wish)
    assert sorted(bench.system.objects) == ["Thing/c"]
    assert {str(one.id): one.reason.partition(":")[0] for one in report.remaining.stuck}["mem/Thing/b"] == "waits for mem/Thing/a"


def test_success_and_a_word_from_a_person_end_the_rest() -> None:
    bench = Bench()
    tries(bench, 0, thing("a"), looks=3)
    bench.system.before_write = lambda name: None
    assert bench.run(thing("a")).verdict is Verdict.FAILED, "it rests"
    bench.rests.wake("test")
    assert bench.run(thing("a")).verdict is Verdict.CONVERGED
    assert bench.rests.of("test", bench.time.seconds) == {}
