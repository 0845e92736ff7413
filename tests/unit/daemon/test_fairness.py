"""Several stacks side by side: one that hangs does not hold up the others, and all have their turn by age."""

import threading
from pathlib import Path

from tests.unit.core.memory import thing
from tests.unit.daemon.house import House, commit


def test_a_stack_that_hangs_does_not_stop_the_others(tmp_path: Path) -> None:
    house = House(tmp_path)
    hung, go = threading.Event(), threading.Event()

    def write(name: str) -> None:
        if name == "Thing/slow":
            hung.set()
            go.wait(20)

    house.system.before_write = write
    house.daemon.accept(commit("c1", slow=thing("slow"), **{f"s{number}": thing(f"t{number}") for number in range(5)}))
    threads = [threading.Thread(target=house.daemon._work) for _ in range(2)]
    done = threading.Semaphore(0)
    house.daemon.done = lambda report: done.release()
    for thread in threads:
        thread.start()
    try:
        assert hung.wait(10)
        assert all(done.acquire(timeout=10) for _ in range(5)), "the other five"
        assert "Thing/slow" not in house.system.objects
    finally:
        go.set()
        assert done.acquire(timeout=10)
        house.stop.set()
        house.daemon.queue.close()
        for thread in threads:
            thread.join(10)
        house.store.close()
    assert "Thing/slow" in house.system.objects


def test_due_stacks_have_their_turn_by_age_however_often_one_of_them_is_asked_for(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.daemon.accept(commit("c1", a=thing("a"), b=thing("b"), c=thing("c")))
    assert house.passes() == ["a", "b", "c"]
    order = []
    for name in ("b", "c", "a"):
        house.daemon.queue.request(name, "webhook")
        house.time.seconds += 1
    for _ in range(6):
        order += house.passes(most=1)
        house.daemon.queue.request("b", "webhook")
        house.time.seconds += 1
    assert order[:3] == ["b", "c", "a"], "whoever was asked for first"
    assert order[3:] == ["b", "b", "b"], "and nobody else is due"
    house.store.close()
