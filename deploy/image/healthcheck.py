"""What the image's HEALTHCHECK runs: asks the daemon's own ``/healthz`` where the settings say that it listens. Changes nothing.

It reads that one address and no credential: settings that the daemon would refuse make nobody sick, because it goes on with the last ones.
Where nothing listens, nothing can be asked; then the container's life is the daemon's.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import yaml

SECONDS = 8.0
HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # what listens everywhere is asked from inside


def address(settings: Path) -> str:
    """Give ``http.listen`` of the settings, ``HOST:PORT`` or empty; the environment wins, as it does for the daemon."""
    given = yaml.safe_load(settings.read_text(encoding="utf-8")) or {}
    return os.environ.get("RECONCILER_HTTP__LISTEN", str((given.get("http") or {}).get("listen") or ""))


def asked(listen: str) -> tuple[bool, str]:
    """Say whether the daemon on ``listen`` is well, and what it said. Raises OSError or HTTPException when it does not answer."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    connection = HTTPConnection(HERE.get(host, host), int(port), timeout=SECONDS)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status == 200, answer.read(100_000).decode(errors="replace")
    finally:
        connection.close()


def main(settings: Path) -> int:
    """Give the exit code that Docker expects: 0 well, 1 sick."""
    try:
        listen = address(settings)
        well, said = asked(listen) if listen else (True, "http.listen is not set, so nothing can be asked")
    except (OSError, HTTPException, ValueError, AttributeError, yaml.YAMLError) as error:
        well, said = False, f"{settings}: http.listen: {error}"
    sys.stdout.write(f"{said}\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
