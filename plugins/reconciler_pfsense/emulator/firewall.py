"""The firewall itself: a configuration with history, and what observing and applying do to it. It knows no SSH and runs no PHP.

``observe`` and ``apply`` do in Python what ``agent.php`` does with pfSense's functions; the tests hold both against the same recordings.
"""

import copy
import hashlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reconciler.resource import JSONObject
from reconciler_pfsense.emulator.configfile import Config, Unreadable, at, dump, listed, parse, put
from reconciler_pfsense.emulator.render import HAPROXY, entries, haproxy_cfg, pools_of, rules

LISTS = ("aliases/alias", "nat/rule", "filter/rule", f"{HAPROXY}/ha_backends/item", f"{HAPROXY}/ha_pools/item")
SETTINGS = ("enable", "maxconn", "nbthread", "hard_stop_after")
PLACES = (*LISTS, *(f"{HAPROXY}/{key}" for key in SETTINGS))
REFERRING = frozenset(("address", "network", "port", "sourceport", "dstport", "target", "local-port")) | frozenset(
    ("extaddr_custom", "extaddr_port", "value")
)
HISTORY = 30


class Refusal(Exception):
    """What the program on the firewall answers instead of a result."""

    def __init__(self, kind: str, message: str) -> None:
        """Take the kind (busy, conflict, refused, failed) and the reason."""
        self.kind = kind
        super().__init__(message)


class Cut(Exception):
    """The process or the connection ends here."""


class Firewall:
    """One pfSense with the HAProxy package. ``trouble`` names faults that are in force inside it."""

    def __init__(self, config_xml: str) -> None:
        """Boot with a configuration: everything in it is loaded."""
        self.text = config_xml
        self.config = parse(config_xml)
        self.history: dict[int, tuple[str, str]] = {}
        self.haproxy_cfg = ""
        self.rules = ""
        self.pending = False
        self.reloads = 0
        self.trouble: set[str] = set()
        self.down: set[str] = set()
        self.on_reload: Callable[[str], None] | None = None
        self._load(filter=True, haproxy=self.has_haproxy)

    @property
    def has_haproxy(self) -> bool:
        """Say whether the package is installed."""
        return isinstance(at(self.config, HAPROXY), dict) and "no-haproxy" not in self.trouble

    @property
    def sha(self) -> str:
        """Give the hash of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    # -- the two verbs -----------------------------------------------------------------------------------------------------------

    def observe(self) -> JSONObject:
        """Give what the program reports."""
        settings = at(self.config, HAPROXY)
        seen = {key: settings[key] for key in SETTINGS if key in settings} if self.has_haproxy else None
        return {
            "sha": self.sha,
            "version": "2.8.0-RELEASE",
            "revision": at(self.config, "revision") or {},
            "history": self._past(),
            "lists": {path: [_without_passwords(item) for item in listed(self.config, path)] for path in LISTS},
            "settings": seen,
            "stats": self.stats() if seen is not None and "enable" in seen else None,
            "pending": self.pending,
        }

    def _past(self) -> list[JSONObject]:
        """Give the earlier revisions, newest first, as ``backup.cache`` has them."""
        return [{"time": str(when), "description": words} for when, (words, _) in sorted(self.history.items(), reverse=True)]

    def glance(self, known: str) -> JSONObject:
        """Say whether the file is still the one that was known, and who wrote it when it is not."""
        if known == self.sha:
            return {"sha": known}
        return {"sha": self.sha, "revision": at(self.config, "revision") or {}, "history": self._past()}

    def apply(self, request: JSONObject) -> JSONObject:
        """Make one transaction, as the program does. Raises Refusal or Cut."""
        if "locked" in self.trouble:
            raise Refusal("busy", "another run of this program holds the lock on the firewall")
        if self.pending:
            request = {**request, "filter": True, "haproxy": request["haproxy"] or self.has_haproxy}
        if request["haproxy"] and not self.has_haproxy:
            raise Refusal("refused", "the package haproxy is not installed on the firewall")
        known = _unresolvable(self.rules)
        before = self.config
        written = False
        if not str(at(self.config, "revision/description") or "").endswith(request["transaction"]):
            written = self._write(request)
        if self.pending:
            self._load_or_restore(request, known, before if written else None)
        return self.observe()

    def _write(self, request: JSONObject) -> bool:
        if request["expect"] != self.sha:
            who = f"{at(self.config, 'revision/username')}: {at(self.config, 'revision/description')}"
            raise Refusal("conflict", f"the configuration was changed since it was looked at, last by {who}")
        config = copy.deepcopy(self.config)
        edit(config, request["edits"])
        check_references(config, request["gone"])
        if _content(config) == _content(self.config):
            return False
        if "disk-full" in self.trouble:
            raise Refusal("failed", "the configuration cannot be copied aside, nothing was written; is the disk full?")
        if request["haproxy"]:
            why = self._refusal_of_haproxy(config)
            if why:
                raise Refusal("refused", f"haproxy refuses the new configuration, nothing was written: {why}")
        if "other-admin" in self.trouble:
            self.change(lambda other: other["system"].update(hostname="fw2"))
            raise Refusal("conflict", "the configuration was changed while this change was being prepared")
        wanted, before = _content(config), self.text
        self.pending = True
        self.save(config, f"(system): {request['description']} {request['transaction']}", "(system)")
        if _content(self.config) != wanted:
            self._restore(before)
            raise Refusal("failed", "pfsense did not keep what was written; the configuration from before was restored and loaded")
        return True

    def _load_or_restore(self, request: JSONObject, known: set[str], before: Config | None) -> None:
        written, sha = self.config, self.sha
        if "cut-during-reload" in self.trouble:
            raise Cut
        why = self._load(filter=request["filter"], haproxy=request["haproxy"], known=known)
        if why and before is None:
            raise Refusal("failed", f"{why}; the configuration stays saved but not loaded")
        if before is not None and why and self.sha != sha:
            raise Refusal("failed", f"{why}; {self._take_out(before, written, request['description'])}")
        if why:
            self._restore(dump(before or {}))
            raise Refusal("failed", f"{why}; the configuration from before was restored and loaded")
        self.pending = False

    def _take_out(self, before: Config, written: Config, description: str) -> str:
        """Take back only what the transaction wrote, because somebody saved meanwhile."""
        who, config = at(self.config, "revision/username"), copy.deepcopy(self.config)
        ours = [path for path in PLACES if at(before, path) != at(written, path)]
        for path in ours:
            if at(config, path) != at(written, path):
                return f"{who} changed {path} meanwhile, so nothing was taken back: what was written stays saved but not loaded"
            folder, _, key = path.rpartition("/")
            old = at(before, path)
            put(config, folder, _merge(at(config, folder) or {}, {"unset": [key]} if old is None else {"set": {key: old}}))
        self.save(config, f"(system): before {description}", "(system)")
        self._load_calmly()
        return f"only what this change wrote was taken back, and loaded, because {who} saved meanwhile"

    # -- what pfSense's own functions do -----------------------------------------------------------------------------------------

    def save(self, config: Config, description: str, username: str) -> None:
        """Write the file as ``write_config`` does: unasked backup, no comparison, and a restored backup when it cannot be read back."""
        self._remember()
        config["revision"] = {"time": str(int(time.time())), "description": description, "username": username}
        text = dump(config)
        try:
            self.config = parse(text)
            self.text = text
        except Unreadable:
            _, self.text = next(reversed(self.history.values()))
            self.config = parse(self.text)

    def change(self, function: Callable[[Config], object], *, username: str = "admin@10.0.0.5 (Local Database)") -> None:
        """Change the configuration as somebody at the GUI would, and load it."""
        config = copy.deepcopy(self.config)
        function(config)
        self.save(config, f"{username}: changed by hand", username)
        self._load(filter=True, haproxy=self.has_haproxy)

    def _remember(self) -> None:
        """Copy the file into the history under its revision's second: the later of two in one second replaces the earlier."""
        words = str(at(self.config, "revision/description") or "")
        self.history[int(at(self.config, "revision/time") or 0)] = words, self.text
        for old in list(self.history)[:-HISTORY]:
            del self.history[old]

    def _restore(self, before: str) -> None:
        self.save(parse(before), '(system): Reverted to "before"', "(system)")
        self._load_calmly()

    def _load_calmly(self) -> None:
        """Load what went back: the faults hit the first load only."""
        trouble, self.trouble = self.trouble, set()
        self._load(filter=True, haproxy=self.has_haproxy)
        self.trouble = trouble
        self.pending = False

    def _load(self, *, filter: bool, haproxy: bool, known: set[str] | None = None) -> str:
        """Bring the configuration into force. Gives why that failed, or nothing."""
        if filter:
            if "late-admin" in self.trouble:
                other = copy.deepcopy(self.config)
                other["system"]["hostname"] = "fw2"
                self.save(other, "admin@10.0.0.5: changed by hand", "admin@10.0.0.5")
            if self.trouble & {"pf-refuses", "late-admin"}:
                return "pf refused the rules; see the notices of the firewall"
            self.rules = rules(self.config)
            skipped = sorted(_unresolvable(self.rules) - (known if known is not None else _unresolvable(self.rules)))
            if skipped:
                return f"pf would skip rules: {'; '.join(skipped)}"
        if haproxy:
            return self._load_haproxy()
        return ""

    def _load_haproxy(self) -> str:
        settings = at(self.config, HAPROXY)
        self.haproxy_cfg = haproxy_cfg(self.config, datetime.now(UTC))
        if "port-taken" in self.trouble:
            return "[ALERT] Starting frontend: cannot bind socket (Address already in use)"
        self.reloads += 1
        if self.on_reload is not None:
            self.on_reload(self.haproxy_cfg if "enable" in settings else "")
        return ""

    def _refusal_of_haproxy(self, config: Config) -> str:
        """Check as ``haproxy -c`` does, with the program itself where it is installed. Rendering adds empty tags to the configuration."""
        for key in ("email_mailers", "dns_resolvers"):
            at(config, HAPROXY).setdefault(key, "")
        text = haproxy_cfg(config, datetime.now(UTC))
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
        return _ask(program, text) if program else missing_backend(text)

    def stats(self) -> dict[str, str]:
        """Give the states of the running frontends and servers; those in ``down`` (``backend/server``) are down."""
        states: dict[str, str] = {}
        section = ""
        for line in self.haproxy_cfg.splitlines():
            words = line.split()
            if line.startswith(("frontend ", "backend ")):
                section = words[1]
                states[f"{section}/{'FRONTEND' if words[0] == 'frontend' else 'BACKEND'}"] = "OPEN" if words[0] == "frontend" else "UP"
            elif words[:1] == ["server"] and section:
                name = f"{section.removesuffix('_ipvANY')}/{words[1]}"
                states[f"{section}/{words[1]}"] = "DOWN" if name in self.down else "UP" if "check" in words else "no check"
        return states


def _without_passwords(item: Any) -> Any:
    return {key: value for key, value in item.items() if "password" not in key} if isinstance(item, dict) else item


def _ask(program: str, text: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "haproxy.cfg")
        path.write_text(text, "utf-8")
        done = subprocess.run([program, "-c", "-f", path], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    alerts = [line.strip() for line in done.stderr.replace(str(path), "haproxy.cfg").splitlines() if "[ALERT]" in line]
    return "; ".join(alerts) if done.returncode else ""


def missing_backend(text: str) -> str:
    """Find the commonest fault without HAProxy: a frontend whose backend is not there, or a PROXY version that does not exist."""
    backends = set(re.findall(r"^backend (\S+)", text, re.MULTILINE))
    for frontend, body in re.findall(r"^frontend (\S+)\n((?:\t.*\n)*)", text, re.MULTILINE):
        for name in re.findall(r"default_backend (\S+)", body):
            if name not in backends:
                return f"[ALERT] config : Proxy '{frontend}': unable to find required default_backend: '{name}'."
    unknown = re.search(r"\bsend-proxy-(?!v2\b)\S+", text)
    return f"[ALERT] config : unknown keyword '{unknown[0]}'" if unknown else ""


def _unresolvable(text: str) -> set[str]:
    return {line for line in text.splitlines() if line.startswith("# Unresolvable")}


def _normal(value: Any) -> Any:
    """Give a value as the file would give it back."""
    match value:
        case dict():
            return {key: _normal(one) for key, one in value.items() if one is not False} or ""
        case list():
            return [_normal(one) for one in value if _normal(one) != ""] or ""
        case None | True:
            return ""
    return str(value)


def _content(config: Config) -> Config:
    settings = at(config, HAPROXY)
    own = {key: settings[key] for key in SETTINGS if key in settings} if isinstance(settings, dict) else {}
    return {path: _normal(listed(config, path)) for path in LISTS} | own


def edit(config: Config, edits: list[JSONObject]) -> None:
    """Make the edits of a transaction. Indexes stay true until the end. Raises Refusal."""
    lists: dict[str, dict[int, Any]] = {}
    for one in edits:
        if "path" in one:
            item = at(config, one["path"])
            put(config, one["path"], _merge(item if isinstance(item, dict) else {}, one))
            continue
        items = lists.setdefault(one["list"], dict(enumerate(listed(config, one["list"]))))
        index = _find(items, one)
        if one.get("delete"):
            if index is not None:
                del items[index]
        elif index is None:
            items[max(items, default=-1) + 1] = _merge(one["key"], one)
        else:
            items[index] = _merge(items[index], one)
    for path, items in lists.items():
        put(config, path, list(items.values()))


def _merge(item: Config, one: JSONObject) -> Config:
    merged = {**item, **one.get("set", {})}
    return {key: value for key, value in merged.items() if key not in one.get("unset", ())}


def _holds(item: Any, key: Config) -> bool:
    return isinstance(item, dict) and all(str(item.get(name)) == str(value) for name, value in key.items())


def _find(items: dict[int, Any], one: JSONObject) -> int | None:
    if "at" in one:
        if one["at"] not in items or not _holds(items[one["at"]], one["key"]):
            raise Refusal("conflict", f"an item of {one['list']} is no longer what it was")
        return int(one["at"])
    return next((index for index, item in items.items() if _holds(item, one["key"])), None)


def check_references(config: Config, gone: list[JSONObject]) -> None:
    """Refuse to delete what is still referred to. Raises Refusal."""
    for item in gone:
        name = item["name"]
        if item["kind"] == "Alias":
            users = sorted(set(_users(name, config, ())))
        else:
            frontends = entries(at(config, f"{HAPROXY}/ha_backends"))
            users = [f"frontend ({one['name']})" for one in frontends if name in pools_of(one)]
        if users:
            raise Refusal("used", f"{item['kind']} {name} is still used by: {', '.join(users)}; change or delete that first")


def _users(name: str, value: Any, trail: tuple[str, ...], called: str = "") -> Iterator[str]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    if isinstance(value, dict):
        called = str(value.get("name") or value.get("descr") or called)
    for key, inner in pairs:
        if isinstance(inner, dict | list):
            yield from _users(name, inner, (*trail, str(key + 1) if isinstance(key, int) else key), called)
        elif key in REFERRING and name in re.split(r"[\s,]+", str(inner)):
            yield " ".join(trail) + (f" ({called})" if called else "")
