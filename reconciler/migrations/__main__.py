"""Makes or migrates one database and ends: ``{"path": ..., "url": ...}`` comes in on standard input, because a URL holds a password."""

import json
import sys

from reconciler.errors import ReconcilerError
from reconciler.settings import State
from reconciler.state import Store

if __name__ == "__main__":
    try:
        Store(State(**json.load(sys.stdin))).close()
    except ReconcilerError as error:
        sys.exit(str(error))
