"""A desk as a process: ``python -m tests.contract.desk_worker JOB``, where JOB is a file of JSON; the process says when it has the turn.

It stops for ever, as a frozen machine does, right before or right after it writes a comment when the job says so.
"""

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from pydantic import SecretStr

from reconciler.compose import Workshop
from reconciler.daemon.pulls import Desk
from reconciler.database import PostgresDatabase
from reconciler.notify.forge import GitHub
from reconciler.proposals import ProposalSource
from reconciler.resource import SecretValue
from reconciler.settings import Settings, State
from reconciler.state import Store
from reconciler.turns import AdvisoryTurns
from tests.unit.core.memory import CATALOG, System


class Freezing(GitHub):
    """A client whose process is frozen once at a place of its work, until somebody sends SIGCONT."""

    freeze = ""

    def comment(self, number: int, body: str) -> str:
        """Write a comment, and freeze at the place that was named."""
        self.frozen("before comment")
        found = super().comment(number, body)
        self.frozen("after comment")
        return found

    def edit(self, number: int, id: str, body: str) -> None:
        """Edit a comment, and freeze before when that was named."""
        self.frozen("before edit")
        super().edit(number, id, body)

    def frozen(self, place: str) -> None:
        if self.freeze == place:
            self.freeze = ""
            os.kill(os.getpid(), signal.SIGSTOP)


@dataclass(slots=True)
class Saying(Desk):
    """A desk that says when it gets the turn."""

    said: Path = Path()

    def once(self, *, pulls: bool = True) -> float:
        """Say that it is our turn, and work."""
        self.said.touch()
        return Desk.once(self, pulls=pulls)


def main(job: dict[str, Any]) -> None:
    store = Store(State(url=SecretStr(job["url"])))
    assert isinstance(store.database, PostgresDatabase)
    if job["silence"]:
        locks = AdvisoryTurns(store.database.locks.connect, silence=job["silence"], pause=job["silence"] / 4)
        store.database.locks = store.database.turns.turns = locks
    settings = Settings(repository={"url": job["remote"], "pull_requests": True, "poll": 1}, forge=job["forge"])  # type: ignore[arg-type]  # as the file gives them
    workshop = Workshop(settings.model_copy(update={"targets": {"mem": {"system": System()}}}), kinds=CATALOG)
    forge = Freezing(job["forge"]["url"], SecretValue(job["forge"]["token"]), job["forge"]["repository"])
    forge.freeze = job["freeze"]
    source = ProposalSource(job["remote"], "main", Path(job["cache"]), allow_file=True)
    Saying(workshop, store, forge, source, said=Path(job["said"])).run(Event())


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
