"""How long a person waits for ``--help``."""

from benchmarks.common import PROGRAM, fastest, figure


def measure() -> list[dict[str, object]]:
    """Measure whole processes."""
    return [figure("reconciler --help", fastest([PROGRAM, "--help"]), "s", 0.3)]
