"""The daemon's promises about revisions, passes and its own end."""

import itertools
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.daemon.loop import RETRY_MOST
from reconciler.daemon.owners import Owners
from reconciler.daemon.queue import KeyedQueue
from reconciler.engine import Engine
from reconciler.errors import InputError, Permanent, Problem, ReconcilerError, SourceError
from reconciler.report import Report, Verdict
from tests.unit.core.memory import stack_file, thing
from tests.unit.daemon.house import BAD, BETTER, GOOD, Hand, House, commit


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.store.close()


def objects(house: House) -> list[str]:
    return sorted(house.system.objects)


class TestARevision:
    def test_is_loaded_and_asks_for_a_pass_of_each_of_its_stacks(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=GOOD, web=thing("w")))
        assert house.passes() == ["mail", "web"]
        assert objects(house) == ["Thing/a", "Thing/w"]
        assert [(one.stack, one.verdict, one.reason) for one in house.reports] == [
            ("mail", Verdict.CONVERGED, "commit c1"),
            ("web", Verdict.CONVERGED, "commit c1"),
        ]
        assert house.reports[0].subject == "subject of c1"

    def test_with_problems_is_rejected_recorded_and_told_once_and_the_last_good_one_stays_in_force(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=GOOD))
        house.passes()
        house.told()
        house.daemon.accept(commit("c2", mail=BAD))
        assert house.reports[-1].verdict is Verdict.REJECTED
        assert "desired/mail/all.yaml" in str(house.reports[-1].problems[0])
        assert house.store.runs("mail", most=1)[0]["verdict"] == "rejected"
        assert house.told() == ["mail: the commit was rejected; the last good revision stays in force"]
        house.system.objects["Thing/a"].content["text"] = "meddled"
        house.time.seconds = 400
        assert house.passes() == ["mail"]
        assert house.system.objects["Thing/a"].content["text"] == "Hello"
        assert house.reports[-1].revision == "c1"
        assert not [one for one in house.told() if "converged" in one], "the rejected commit is still the newest"

    def test_with_problems_in_one_stack_does_not_stop_the_others(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=BAD, web=thing("w")))
        assert house.passes() == ["web"]

    def test_that_is_good_again_is_told_to_whoever_heard_of_the_bad_one(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=BAD))
        house.told()
        house.daemon.accept(commit("c2", mail=GOOD))
        house.passes()
        assert house.told() == ["mail: the newest revision can be used", "mail: converged: 1 to create"]
        house.daemon.accept(commit("c3", mail=GOOD))
        house.passes()
        assert house.told() == []

    def test_that_is_good_again_after_a_restart_is_told_too(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=BAD))
        house.told()
        house.restart()
        house.daemon.accept(commit("c1", mail=BAD))
        assert house.told() == [], "the same commit with the same problems was told before the restart"
        house.restart()
        house.daemon.accept(commit("c2", mail=GOOD))
        assert house.told() == ["mail: the newest revision can be used"]

    def test_without_any_stack_deletes_nothing_and_is_reported(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=GOOD))
        house.passes()
        house.told()
        house.daemon.accept(commit("c2"))
        assert house.reports[-1].verdict is Verdict.REJECTED
        assert house.told() == ["repository: the commit was rejected; the last good revision stays in force"]
        house.time.seconds = 400
        assert house.passes() == ["mail"]
        assert objects(house) == ["Thing/a"]

    def test_that_has_stacks_again_ends_the_rejection_of_the_repository(self, house: House) -> None:
        house.daemon.accept(commit("c1"))
        house.told()
        house.daemon.accept(commit("c2", mail=GOOD))
        assert house.told() == ["repository: the newest revision can be used"]
        assert house.store.runs("repository", most=1)[0]["verdict"] == "converged", "or reconciler status would show it for ever"

    def test_in_which_a_stack_disappeared_deletes_nothing_of_it_and_says_so_once(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=GOOD, web=thing("w")))
        house.passes()
        house.told()
        house.daemon.accept(commit("c2", mail=GOOD))
        house.passes()
        assert [str(one) for one in house.reports[-2].problems] == ["desired/web: the stack disappeared; nothing of it is deleted"]
        assert house.told() == ["web: the commit was rejected; the last good revision stays in force"]
        house.daemon.accept(commit("c3", mail=GOOD))
        house.passes()
        assert house.told() == []
        assert [row["verdict"] for row in house.store.runs("web")] == ["rejected", "converged"]
        assert objects(house) == ["Thing/a", "Thing/w"]

    def test_that_lost_a_stack_while_the_daemon_was_down_says_so_once(self, house: House, tmp_path: Path) -> None:
        house.daemon.owners = Owners(tmp_path / "stacks.json")
        house.daemon.accept(commit("c1", mail=GOOD, web=thing("w")))
        house.passes()
        house.told()
        for _ in range(2):
            house.restart()
            house.daemon.owners = Owners(tmp_path / "stacks.json")
            house.daemon.accept(commit("c2", mail=GOOD))
            house.passes()
        assert house.told() == ["web: the commit was rejected; the last good revision stays in force"]
        assert [row["verdict"] for row in house.store.runs("web")] == ["rejected", "converged"]
        assert objects(house) == ["Thing/a", "Thing/w"]

    def test_that_brings_a_stack_back_is_converged_again(self, house: House) -> None:
        for name, stacks in (("c1", {"mail": GOOD, "web": thing("w")}), ("c2", {"mail": GOOD}), ("c3", {"mail": GOOD, "web": thing("v")})):
            house.daemon.accept(commit(name, **stacks))
            house.passes()
        assert objects(house) == ["Thing/a", "Thing/v"]

    def test_that_no_commit_names_is_called_a_saved_file(self, house: House) -> None:
        house.daemon.accept(commit("", mail=GOOD))
        house.passes()
        assert house.reports[-1].reason == "a saved file"

    def test_that_brings_a_bug_of_ours_to_light_is_rejected_and_the_other_stacks_go_on(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from reconciler import desired

        real = desired.load_stack

        def broken(tree: Any, folder: str, kinds: Any, **more: Any) -> Any:
            if folder.endswith("mail"):
                raise RecursionError
            return real(tree, folder, kinds, **more)

        monkeypatch.setattr(desired, "load_stack", broken)
        house.daemon.accept(commit("c1", mail=GOOD, web=thing("w")))
        assert house.passes() == ["web"]
        assert "bug: RecursionError while loading" in str(house.reports[0].problems[0])


class TestARewrittenHistory:
    def test_is_named_in_the_reason_of_the_next_pass_and_told(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=GOOD))
        house.passes()
        house.told()
        house.daemon.accept(commit("c2", mail=BETTER, rewritten=True))
        house.passes()
        assert house.reports[-1].reason == "commit c2, history was rewritten"
        assert "repository: history was rewritten; deletes wait for approval until the next commit" in house.told()
        assert objects(house) == ["Thing/a", "Thing/b"], "what it asks for is done"

    def test_never_deletes_by_itself(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=BETTER))
        house.passes()
        house.daemon.accept(commit("c2", mail=GOOD, rewritten=True))
        house.passes()
        assert objects(house) == ["Thing/a", "Thing/b"]
        assert house.reports[-1].verdict is Verdict.PENDING
        held = house.reports[-1].remaining
        house.store.approve(held.digest, "owner", "2026-04-01T12:00:00")
        house.time.seconds = 10
        house.passes()
        assert objects(house) == ["Thing/a"], "a person approved"

    def test_stays_careful_on_the_next_day_and_is_over_with_the_next_commit(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=BETTER))
        house.passes()
        house.daemon.accept(commit("c2", mail=GOOD, rewritten=True))
        house.passes()
        house.time.now += timedelta(days=1)
        house.time.seconds += 86400
        house.passes(1)
        assert objects(house) == ["Thing/a", "Thing/b"]
        house.daemon.accept(commit("c3", mail=GOOD))
        house.passes(1)
        assert objects(house) == ["Thing/a"]

    def test_keeps_a_stricter_rule_of_the_stack(self, house: House) -> None:
        strict = {"stack.yaml": stack_file(policy={"approval": "commits"}).replace("name: test", "name: mail"), "all.yaml": GOOD}
        house.daemon.accept(commit("c1", mail=strict, rewritten=True))
        assert house.daemon.force["mail"].stack.spec.policy.approval == "commits"


class TestTheSource:
    def test_that_cannot_be_read_is_logged_once_and_told_when_it_stays_so(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        house.head.answers = [SourceError("git: no route to host")] * 5
        for _ in range(2):
            house.daemon.look()
        assert house.told() == [], "one miss is no news"
        for _ in range(3):
            house.daemon.look()
        assert house.told() == ["repository: the repository cannot be read; the last good revision stays in force"]
        assert caplog.text.count("no route to host") == 1

    def test_that_can_be_read_again_is_told_if_its_trouble_was(self, house: House) -> None:
        house.head.answers = [SourceError("down")] * 3 + [None, SourceError("down"), None]
        for _ in range(3):
            house.daemon.look()
        house.told()
        house.daemon.look()
        assert house.told() == ["repository: the repository can be read again"]
        house.daemon.look()
        house.daemon.look()
        assert house.told() == []

    def test_with_files_that_may_not_be_used_is_a_rejected_revision(self, house: House) -> None:
        for file in ("desired/mail/x.yaml", "desired/mail/y.yaml"):
            house.head.answers.append(InputError([Problem(file, 0, "a symlink is not followed")]))
        house.daemon.look()
        assert house.told() == ["repository: the commit was rejected; the last good revision stays in force"]
        house.daemon.look()
        assert len(house.told()) == 1, "another problem is news"

    def test_is_asked_again_and_again_until_the_end(self, house: House) -> None:
        house.head.answers = [commit("c1", mail=GOOD), None, None]
        house.daemon._watch()
        assert house.head.asked == 3
        assert house.passes() == ["mail"]


class TestAPass:
    def test_that_converged_is_followed_by_one_at_the_interval(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=GOOD))
        house.passes()
        house.time.seconds = 269
        assert house.passes() == []
        house.time.seconds = 300
        assert house.passes() == ["mail"]
        assert house.reports[-1].reason == "resync"

    def test_that_failed_is_tried_again_soon_and_then_ever_later(self, house: House) -> None:
        house.system.on_read = [Permanent("mem: 403 forbidden") for _ in range(50)]
        house.daemon.accept(commit("c1", mail=GOOD))
        pauses = []
        for _ in range(8):
            house.passes(1)
            before = house.time.seconds
            while len(house.daemon.queue) and not due(house):
                house.time.seconds += 0.5
            pauses.append(house.time.seconds - before)
        assert 4 <= pauses[0] <= 5.5
        assert all(later > sooner for sooner, later in itertools.pairwise(pauses[:6]))
        assert max(pauses) <= RETRY_MOST + 0.5
        assert house.reports[-1].reason == "another try"

    def test_that_failed_for_days_does_not_end_the_daemon(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=GOOD))
        force = house.daemon.force["mail"]
        force.failures = 5000
        house.daemon._again(force, "mail", well=False)
        assert len(house.daemon.queue) == 1

    def test_starts_the_counting_of_failures_anew_after_a_success(self, house: House) -> None:
        house.system.on_read = [Permanent("mem: 403")]
        house.daemon.accept(commit("c1", mail=GOOD))
        house.passes()
        assert house.daemon.force["mail"].failures == 1
        house.time.seconds += 6
        house.passes()
        assert house.daemon.force["mail"].failures == 0

    def test_with_a_bug_is_logged_and_tried_again_and_nobody_dies(
        self, house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: Any, **__: Any) -> Report:
            raise ZeroDivisionError

        house.daemon.accept(commit("c1", mail=GOOD))
        with monkeypatch.context() as patched:
            patched.setattr(Engine, "converge", broken)
            assert house.passes() == ["mail"]
        assert "bug: the pass of mail raised ZeroDivisionError" in caplog.text
        house.time.seconds += 6
        assert house.passes() == ["mail"]
        assert objects(house) == ["Thing/a"]

    def test_that_a_commit_interrupts_the_wait_for_names_the_commit_only(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=GOOD))
        house.passes()
        house.daemon.accept(commit("c2", mail=BETTER))
        house.passes()
        assert house.reports[-1].reason == "commit c2"

    def test_counts_an_exception_as_over_on_the_day_after_its_last(self, house: House) -> None:
        exception = (
            "---\napiVersion: reconciler/v1\nkind: DriftException\nmetadata: {name: x}\n"
            "spec: {resource: mem/Thing/a, fields: [/text], reason: until then, expires: 2026-04-01}\n"
        )
        house.daemon.accept(commit("c1", mail=GOOD + exception))
        house.passes()
        house.system.objects["Thing/a"].content["text"] = "meddled"
        house.time.seconds += 300
        house.passes()
        assert house.system.objects["Thing/a"].content["text"] == "meddled"
        house.time.now += timedelta(days=1)
        house.time.seconds += 300
        house.passes()
        assert house.system.objects["Thing/a"].content["text"] == "Hello"


def due(house: House) -> bool:
    """Say whether something could be taken, without taking it."""
    return any(one.due <= house.time.seconds for one in house.daemon.queue._waiting.values())


def until_stopped(stop: threading.Event) -> None:
    stop.wait(10)


class TestTheEnd:
    def test_lets_the_write_that_is_under_way_finish_and_starts_no_other(self, house: House) -> None:
        writing, go_on = threading.Event(), threading.Event()

        def slow(name: str) -> None:
            writing.set()
            assert go_on.wait(10)

        house.system.before_write = slow
        house.head.answers = [commit("c1", mail=thing("a") + thing("b", needs=["a"]))]
        house.head.wait = until_stopped
        house.daemon.queue = KeyedQueue()
        runner = threading.Thread(target=house.daemon.run)
        runner.start()
        assert writing.wait(10)
        house.stop.set()
        go_on.set()
        runner.join(timeout=10)
        assert not runner.is_alive()
        assert objects(house) == ["Thing/a"]
        assert house.store.runs("mail", most=1)[0]["verdict"] == "interrupted"

    def test_may_be_asked_for_by_a_signal_handler_of_the_thread_that_runs_the_daemon(self, house: House) -> None:
        runner = threading.current_thread()

        class Stop(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                assert threading.current_thread() is not runner, "its lock may be held when the handler wants it"
                return super().wait(timeout)

        house.daemon.workshop.stop = stop = Stop()
        house.head.wait = lambda _: stop.set()
        house.daemon.run()

    def test_comes_with_an_error_when_a_thread_dies(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        died: list[Any] = []
        monkeypatch.setattr(threading, "excepthook", died.append)
        house.daemon.head = Hand(OSError("disk full"))
        with pytest.raises(ReconcilerError, match="the source thread died"):
            house.daemon.run()
        assert [one.exc_type for one in died] == [OSError]
        assert house.stop.is_set(), "the others end too"

    def test_comes_with_an_error_when_a_worker_dies(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        died: list[Any] = []
        monkeypatch.setattr(threading, "excepthook", died.append)
        house.daemon.done = lambda report: (_ for _ in ()).throw(OSError("no space left"))
        house.head.wait = until_stopped
        house.daemon.queue = KeyedQueue()
        house.daemon.accept(commit("c1", mail=GOOD))
        with pytest.raises(ReconcilerError, match="the worker-0 thread died"):
            house.daemon.run()
