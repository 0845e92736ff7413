"""Whether the values of a secret have the shape that git asks for. Says which key and which rule, and never anything of a value."""

import json
import re
from collections.abc import Mapping

from reconciler.errors import Permanent
from reconciler.resource import SecretValue
from reconciler_vault.spec import KeySpec


def check(path: str, values: Mapping[str, SecretValue], wishes: Mapping[str, KeySpec]) -> None:
    """Raise Permanent naming every key of ``values`` that breaks a rule, and the rule. A key that is missing is not judged here."""
    broken = [f"{path}#{key} {fault}" for key, wish in sorted(wishes.items()) if key in values for fault in faults(values[key], wish)]
    if broken:
        raise Permanent("; ".join(broken) + "; put a value of the right shape or correct the rule in git")


def faults(value: SecretValue, wish: KeySpec) -> list[str]:
    """List the rules that a value breaks, in words that hold nothing of the value."""
    found = []
    if wish.pattern is not None and not re.search(wish.pattern, value.reveal()):
        found.append(f"does not match the pattern {wish.pattern}")
    if wish.json_schema is not None:
        found.extend(_schema_faults(value, wish.json_schema))
    return found


def _schema_faults(value: SecretValue, schema: Mapping[str, object]) -> list[str]:
    from jsonschema.validators import validator_for  # takes 0.1 s to import, and few secrets hold JSON

    try:
        data = json.loads(value.reveal())
    except ValueError:
        return ["is not JSON, which its schema asks for"]
    # Only the place in the schema is told: a validator's message and the place in the instance quote the instance.
    places = {"/" + "/".join(map(str, error.absolute_schema_path)) for error in validator_for(schema)(schema).iter_errors(data)}
    return [f"breaks its schema at {place}" for place in sorted(places)]
