"""Routes by the name that a TLS client asks for, as a frontend keeps them: access rules, and actions that name them. Pure.

What else stands in the two lists is not ours: it is kept, and where it stands. Source: ``haproxy.inc`` of the package, which reads these
rules for frontends of type https only and takes the first action whose rule holds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.resource import JSONObject
from reconciler_pfsense.items import items, text
from reconciler_pfsense.spec import Route

EXACT, BELOW = "ssl_sni_matches", "ssl_sni_ends_with"


def routes_live(item: JSONObject) -> list[JSONObject]:
    """Read the routes of a frontend, in order."""
    rules = _rules(item)
    routes = (action for action in items(item.get("a_actionitems")) if _is_route(action, rules))
    return [{"names": sorted({_name(one) for one in rules[action["acl"]]}), "backend": action["use_backendbackend"]} for action in routes]


def route_fields(routes: Sequence[Route], item: JSONObject) -> dict[str, Any]:
    """Write the routes among what is there; nothing at all where they are there already, whatever their rules are called."""
    if routes_live(item) == [{"names": list(route.names), "backend": route.backend} for route in routes]:
        return {}
    rules, actions = items(item.get("ha_acls")), items(item.get("a_actionitems"))
    names = {action["acl"] for action in actions if _is_route(action, _rules(item))}
    names -= {name for action in actions if not _is_route(action, _rules(item)) for name in text(action, "acl").split()}
    names |= {_named(route) for route in routes}  # one of that name without its action would join ours
    new_rules = [_rule(route, name, rules) for route in routes for name in route.names]
    new_actions = [_action(route, actions) for route in routes]
    return {
        "ha_acls": _wrapped(_replaced(rules, [text(one, "name") in names for one in rules], new_rules)),
        "a_actionitems": _wrapped(_replaced(actions, [_is_route(one, _rules(item)) for one in actions], new_actions)),
    }


def _rules(item: JSONObject) -> dict[str, list[JSONObject]]:
    """Give the access rules by name; those of one name hold when any of them does."""
    found: dict[str, list[JSONObject]] = {}
    for rule in items(item.get("ha_acls")):
        found.setdefault(text(rule, "name"), []).append(rule)
    return found


def _is_route(action: JSONObject, rules: Mapping[str, Sequence[JSONObject]]) -> bool:
    """Say whether an action sends on by nothing but names, in a form that a route can say."""
    tests = rules.get(text(action, "acl"), ())
    return text(action, "action") == "use_backend" and bool(tests) and all(_is_name(one) for one in tests)


def _is_name(rule: JSONObject) -> bool:
    expression, value = text(rule, "expression"), text(rule, "value")
    plain = "yes" not in (text(rule, "not"), text(rule, "casesensitive"))
    return plain and (expression == EXACT or (expression == BELOW and value.startswith(".")))


def _name(rule: JSONObject) -> str:
    return ("*" if text(rule, "expression") == BELOW else "") + text(rule, "value").lower()


def _named(route: Route) -> str:
    return f"sni_{route.backend}"


def _rule(route: Route, name: str, old: Sequence[JSONObject]) -> JSONObject:
    expression, value = (BELOW, name.removeprefix("*")) if name.startswith("*.") else (EXACT, name)
    new = {"name": _named(route), "expression": expression, "value": value}
    found = next((one for one in old if all(text(one, key) == said for key, said in new.items())), {})
    return found | new


def _action(route: Route, old: Sequence[JSONObject]) -> JSONObject:
    new = {"action": "use_backend", "use_backendbackend": route.backend, "acl": _named(route)}
    return next((one for one in old if all(text(one, key) == said for key, said in new.items())), {}) | new


def _replaced(old: Sequence[JSONObject], ours: Sequence[bool], new: Sequence[JSONObject]) -> list[JSONObject]:
    """Put the new items where the first of ours stood, or at the end."""
    place = ours.index(True) if True in ours else len(old)
    left = [(number, one) for number, (one, mine) in enumerate(zip(old, ours, strict=True)) if not mine]
    return [*(one for number, one in left if number < place), *new, *(one for number, one in left if number > place)]


def _wrapped(found: Sequence[JSONObject]) -> Any:
    return {"item": list(found)} if found else ""
