"""What the benchmarks share: a figure, a generated stack, and this process's memory."""

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = shutil.which("reconciler", path=str(Path(sys.executable).parent)) or "reconciler"
STACK = "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: big}\nspec:\n  vars: {domain: example.com, address: 192.0.2.1}\n"
RECORD = """apiVersion: cloudflare/v1
kind: DNSRecord
metadata:
  name: r{number}
spec:
  zone: ${{vars.domain}}
  name: r{number}.${{vars.domain}}
  type: A
  content: {content}
  ttl: 300
"""


def figure(what: str, value: float | None, unit: str, bar: float | None) -> dict[str, object]:
    """Make one line of the result; without a bar it is only told, and without a value it is a remark."""
    return {"what": what, "value": value, "unit": unit, "bar": bar}


def tree(count: int, per_file: int = 500) -> dict[str, bytes]:
    """Generate a stack of ``count`` records; every tenth takes its address from the first by ``ref``."""
    files = {"desired/big/stack.yaml": STACK.encode()}
    for start in range(0, count, per_file):
        documents = []
        for number in range(start, min(start + per_file, count)):
            content = '${ref("cloudflare/DNSRecord/r1").spec.content}' if number % 10 == 0 and number else "${vars.address}"
            documents.append(RECORD.format(number=number, content=content))
        files[f"desired/big/r{start:06}.yaml"] = "---\n".join(documents).encode()
    return files


def megabytes() -> float:
    """Give the most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fastest(command: list[str], times: int = 5) -> float:
    """Give the wall-clock seconds of the fastest of several runs of a command."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        found.append(time.perf_counter() - started)
    return min(found)
