"""How long an editor's save hook or a CI job waits for ``validate``."""

from benchmarks.common import PROGRAM, fastest, figure


def measure() -> list[dict[str, object]]:
    """Measure whole processes."""
    return [figure("reconciler validate desired/mail", fastest([PROGRAM, "validate", "desired/mail"]), "s", 1.0)]
