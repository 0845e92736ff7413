"""A worker of the shared queue as a process: ``python -m tests.contract.queue_worker URL LOG STEPS PACE``."""

import json
import os
import sys
import time
from pathlib import Path

from reconciler.daemon.pgqueue import Pace, PostgresQueue
from reconciler.database import PostgresDatabase


def main(url: str, log: str, steps: int, pace: Pace) -> None:
    number = os.open(Path(log), os.O_WRONLY | os.O_APPEND)

    def say(what: str, key: str) -> None:
        os.write(number, f"{what} {key} {os.getpid()} {time.monotonic()}\n".encode())

    queue = PostgresQueue(PostgresDatabase(url), workers=1, pace=pace)
    while True:
        claim = queue.take(1.0)
        if claim is None:
            continue
        say("start", claim.key)
        for _ in range(steps):
            if not queue.still_mine(claim):
                say("lost", claim.key)
                break
            say("write", claim.key)
            time.sleep(0.05)
        else:
            say("end", claim.key)
        queue.done(claim)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Pace(**json.loads(sys.argv[4])))
