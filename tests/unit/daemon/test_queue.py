"""The queue's promises: what waits for one key is one look, nothing asked for is lost, and no key is worked on twice at a time."""

from threading import Thread

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reconciler.daemon.queue import Claim, KeyedQueue


class Seconds:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def queue() -> tuple[KeyedQueue, Seconds]:
    clock = Seconds()
    return KeyedQueue(clock), clock


def test_requests_for_one_key_become_one_claim_with_every_reason_once() -> None:
    asked, _ = queue()
    for reason in ("commit a", "commit b", "commit a"):
        asked.request("mail", reason)
    assert asked.take(0) == Claim("mail", ("commit a", "commit b"))
    assert asked.take(0) is None


def test_requests_during_a_run_cause_exactly_one_more() -> None:
    asked, _ = queue()
    asked.request("mail", "first")
    claim = asked.take(0)
    assert claim is not None
    asked.request("mail", "second")
    asked.request("mail", "third")
    assert asked.take(0) is None, "one run of a key at a time"
    asked.done(claim)
    assert asked.take(0) == Claim("mail", ("second", "third"))
    asked.done(Claim("mail", ()))
    assert asked.take(0) is None


def test_a_key_that_runs_does_not_hold_up_another() -> None:
    asked, _ = queue()
    asked.request("mail", "x")
    asked.request("web", "y")
    assert asked.take(0) == Claim("mail", ("x",))
    asked.request("mail", "z")
    assert asked.take(0) == Claim("web", ("y",))


def test_nothing_is_given_before_it_is_due() -> None:
    asked, clock = queue()
    asked.request("mail", "resync", after=300)
    clock.now = 299.9
    assert asked.take(0) is None
    clock.now = 300
    assert asked.take(0) == Claim("mail", ("resync",))


def test_a_sooner_request_brings_a_later_one_forward_and_says_only_what_caused_the_look() -> None:
    asked, _ = queue()
    asked.request("mail", "resync", after=300)
    asked.request("mail", "commit a")
    assert asked.take(0) == Claim("mail", ("commit a",))
    assert len(asked) == 0


def test_a_later_request_does_not_put_off_a_sooner_one() -> None:
    asked, clock = queue()
    asked.request("mail", "another try", after=5)
    asked.request("mail", "resync", after=300)
    asked.request("mail", "another try", after=300)
    clock.now = 5
    assert asked.take(0) == Claim("mail", ("another try",))


def test_the_key_that_is_due_for_longest_comes_first_however_often_another_asks() -> None:
    asked, clock = queue()
    asked.request("loud", "a")
    asked.request("quiet", "b", after=1)
    clock.now = 2
    given = []
    for _ in range(3):
        claim = asked.take(0)
        assert claim is not None
        given.append(claim.key)
        asked.request("loud", "again")
        asked.done(claim)
    assert given == ["loud", "quiet", "loud"]


def test_of_two_that_are_due_at_once_the_one_that_asked_first_comes_first() -> None:
    asked, _ = queue()
    for name in ("zebra", "ant"):
        asked.request(name, "x")
    assert [claim.key for _ in range(2) if (claim := asked.take(0))] == ["zebra", "ant"]


def test_closing_wakes_every_taker_and_gives_out_nothing_more() -> None:
    asked = KeyedQueue()
    given: list[Claim | None] = []
    takers = [Thread(target=lambda: given.append(asked.take(30))) for _ in range(3)]
    for taker in takers:
        taker.start()
    asked.close()
    for taker in takers:
        taker.join(timeout=5)
    assert given == [None, None, None]
    asked.request("mail", "late")
    assert asked.take(0) is None


def test_a_taker_that_waits_is_woken_by_a_request_and_by_the_end_of_a_run() -> None:
    asked = KeyedQueue()
    given: list[Claim | None] = []
    taker = Thread(target=lambda: given.append(asked.take(30)))
    taker.start()
    asked.request("mail", "x")
    taker.join(timeout=5)
    assert given == [Claim("mail", ("x",))]
    asked.request("mail", "y")
    taker = Thread(target=lambda: given.append(asked.take(30)))
    taker.start()
    asked.done(Claim("mail", ("x",)))
    taker.join(timeout=5)
    assert given[1] == Claim("mail", ("y",))


KEYS = st.sampled_from(["a", "b", "c"])


class QueueMachine(RuleBasedStateMachine):
    """A model of two sets, what is due when and what runs, driven at random beside the real queue."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Seconds()
        self.queue = KeyedQueue(self.clock)
        self.due: dict[str, float] = {}
        self.running: dict[str, Claim] = {}

    @rule(key=KEYS, after=st.sampled_from([0.0, 1.0, 5.0, 300.0]))
    def request(self, key: str, after: float) -> None:
        self.queue.request(key, f"after {after}", after=after)
        self.due[key] = min(self.due.get(key, float("inf")), self.clock.now + after)

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def take(self) -> None:
        ready = {key: due for key, due in self.due.items() if due <= self.clock.now and key not in self.running}
        claim = self.queue.take(0)
        if claim is None:
            assert not ready, "something is due and nothing was given"
            return
        assert claim.key in ready, "given too early, or while it runs"
        assert ready[claim.key] == min(ready.values()), "somebody waited for longer"
        assert claim.reasons
        del self.due[claim.key]
        self.running[claim.key] = claim

    @precondition(lambda self: self.running)
    @rule(number=st.integers(0, 2))
    def done(self, number: int) -> None:
        key = sorted(self.running)[number % len(self.running)]
        self.queue.done(self.running.pop(key))

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.queue) == len(self.due)


TestQueueContract = QueueMachine.TestCase
TestQueueContract.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
