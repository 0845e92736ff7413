"""Runs the benchmarks, each in a process of its own, and prints each figure beside its bar."""

import json
import subprocess
import sys
from importlib import import_module

NAMES = (
    "help",
    "validate",
    "plan",
    "reload",
    "engine",
    "cloudflare",
    "pfsense",
    "idle",
    "k8s",
    "uptime_kuma",
    "vault",
    "http",
    "daemon",
    "scale",
    "day",
)


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, or all; with ``--one NAME`` measure in this process and print JSON."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(import_module(f"benchmarks.bench_{arguments[1]}").measure()))
        return 0
    missed = 0
    for name in arguments or NAMES:
        done = subprocess.run([sys.executable, "-m", "benchmarks", "--one", name], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: failed\n{done.stderr}")
            missed += 1
            continue
        for figure in json.loads(done.stdout.splitlines()[-1]):
            missed += figure["bar"] is not None and figure["value"] >= figure["bar"]
            print(_line(**figure))
    return 1 if missed else 0


def _line(what: str, value: float | None, unit: str, bar: float | None) -> str:
    if value is None:
        return f"       {what}"
    said = f"{what}: {value:.3g} {unit}".rstrip()
    return f"       {said}" if bar is None else f"{'ok    ' if value < bar else 'MISSED'} {said} (bar {bar:g})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
