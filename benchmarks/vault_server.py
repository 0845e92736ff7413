"""An emulated Vault in a process of its own, full of marked secrets: ``python -m benchmarks.vault_server COUNT``.

Prints its settings as a line of JSON; then each line on its input asks for the number of requests so far and of logins, until it ends.
"""

import json
import sys

from reconciler.resource import JSONObject
from reconciler_vault.emulator import VaultEmulator, service_account_token

RULES = 'path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }'


def seed(count: int) -> JSONObject:
    """Give as many secrets of three keys, and a way to log in."""
    values = {"user": "bench", "password": "made-up", "url": "https://bench.invalid"}
    return {
        "secrets": {f"secret/bench/s{number:04}": values for number in range(count)},
        "policies": {"all": RULES},
        "auth": ["kubernetes"],
    }


def main(count: int) -> None:
    """Serve until the input ends."""
    emulator = VaultEmulator(seed(count))
    role = {"bound_service_account_names": ["bench"], "bound_service_account_namespaces": ["bench"], "token_policies": ["all"]}
    emulator.ask("POST", "auth/kubernetes/role/bench", {**role, "token_ttl": 3600})
    emulator.start()
    print(json.dumps({"url": emulator.url, "jwt": service_account_token("bench", "bench")}), flush=True)
    for _ in sys.stdin:
        requests = list(emulator.faults.requests)
        print(len(requests), sum(path.endswith("/login") for _, path in requests), flush=True)
    emulator.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]))
