"""Plays the migration in the embedded world: a commit for each phase, wrong commits on the way, and then every commit taken back."""

import copy
import itertools
import smtplib
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from reconciler.compose import Workshop
from reconciler.desired import desired_below
from reconciler.errors import InputError
from reconciler.registry import catalog
from reconciler.report import Report
from reconciler.sandbox.world import World
from reconciler.stack import Stack
from reconciler.state import Store
from tests.e2e.migration.phases import OLD, PORTS, TRIED, Tree, phases

DESIRED = Path(__file__).parents[3] / "desired" / "mail"
AUTHOR = ("-c", "user.name=owner", "-c", "user.email=owner@demo.invalid")


@dataclass(frozen=True, slots=True)
class Look:
    """What is there at one moment, read from the systems themselves."""

    forwards: Mapping[str, str]
    links: frozenset[str]
    frontends: frozenset[str]
    servers: Mapping[str, str]
    aliases: frozenset[str]
    monitors: Mapping[int, tuple[str, str]]
    service: str
    open: frozenset[tuple[str, int]]
    by_proxy: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One commit that was converged: what was done, what waited for an approval, what is there, and the lists of each transaction."""

    report: Report
    asked: tuple[str, ...]
    look: Look
    transactions: tuple[Sequence[str], ...]
    tree: str


@dataclass(frozen=True, slots=True)
class Wrong:
    """One commit in a wrong order: why it was not made, and whether anything moved."""

    reasons: tuple[str, ...]
    before: Look
    after: Look


@dataclass
class Story:
    """The world, its repository, and what happened. ``steps`` and ``back`` are by phase, ``wrong`` by name."""

    root: Path
    steps: dict[str, Step] = field(default_factory=dict)
    back: dict[str, Step] = field(default_factory=dict)
    wrong: dict[str, Wrong] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    rebooted: str = ""

    def __post_init__(self) -> None:
        """Prepare the world."""
        self._open = ExitStack()
        self.kinds = catalog()
        first = desired_below(DESIRED).load("mail", self.kinds, datetime.now(UTC).date())
        also = {(OLD, port) for port in PORTS.values()} | {(str(first.spec.vars["firewall"]), TRIED)}
        self.world = World(self.root, self.kinds, first, also)
        self.wan = str(first.spec.vars["wan"])
        last = Tree.read(DESIRED).but(self._fitted)
        self.last, self.trees = last, phases(last)
        self.folder = self.world.remote.work / "desired" / "mail"
        self.store = Store(self.root / "story.db")
        self.letters = Letters(self)

    def _fitted(self, tree: Tree) -> None:
        """Take the key that the emulated Vault holds, and wait less long than for a real pod."""
        (stack,) = tree.documents["stack.yaml"]
        stack["spec"]["vars"]["dkim"]["public_key"] = self.world.dkim_public()
        stack["spec"]["health_deadline"] = 20

    def start(self) -> None:
        """Start the world, with what the firewall held before anything was in git, and one engine for the whole story."""
        self.at_the_gui(by_hand)
        self._open.callback(self.store.close)
        self.world.start()
        self._open.callback(self.world.stop)
        self.engine = self._open.enter_context(Workshop(self.world.settings()).engine(self.store))
        self.letters.start()
        self._open.callback(self.letters.stop)

    def stop(self) -> None:
        """End everything, the last first."""
        self._open.close()

    # -- git -------------------------------------------------------------------------------------------------------------------------

    def git(self, *words: str) -> str:
        """Run git in the working copy."""
        done = subprocess.run(["git", *AUTHOR, *words], cwd=self.world.remote.work, capture_output=True, text=True, check=False, timeout=20)
        assert not done.returncode, f"git {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def commit(self, tree: Tree, message: str) -> str:
        """Commit a tree."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tree.write(self.folder)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    # -- passes ----------------------------------------------------------------------------------------------------------------------

    def load(self) -> Stack:
        """Load what git says now. Raises InputError."""
        return desired_below(self.folder).load("mail", self.kinds, datetime.now(UTC).date())

    def converge(self, approved: Sequence[str] = ()) -> Report:
        """Run one converge of the engine over all systems, as the daemon does for a new commit."""
        return self.engine.converge(self.load(), self.git("rev-parse", "HEAD"), reason="commit", approved=approved)

    def step(self) -> Step:
        """Converge the newest commit, with a word of approval where it waits for one, and look at everything."""
        before = len(self.firewall.programs)
        report = self.converge()
        asked = tuple(f"{one.guard}: {one.reason}" for one in report.remaining.held if not one.quiet)
        if asked:
            report = self.converge([report.remaining.digest])
        done = [one for one in self.firewall.programs[before:] if one["verb"] == "apply"]
        transactions = tuple([edit.get("list", edit.get("path")) for edit in one["edits"]] for one in done)
        self.now = self.look()
        return Step(report, asked, self.now, transactions, self.git("rev-parse", "HEAD:desired/mail"))

    def try_wrong(self, name: str, tree: Tree) -> None:
        """Commit something in a wrong order, see what becomes of it, and take it back."""
        before, writes = self.now, self.writes()
        commit = self.commit(tree, f"wrong: {name}")
        try:
            report = self.converge()
        except InputError as error:
            reasons = tuple(str(one) for one in error.problems)
        else:
            reasons = why(report)
        self.wrong[name] = Wrong(reasons, before, self.look())
        self.git("revert", "--no-edit", commit)
        assert not self.git("diff", f"{commit}~1", "HEAD")
        if self.writes() > writes:
            self.converge()

    def try_too_early(self, name: str) -> None:
        """Converge the newest commit at a moment when it must not be made whole."""
        before = self.now
        self.wrong[name] = Wrong(why(self.converge()), before, self.look())

    # -- the systems -----------------------------------------------------------------------------------------------------------------

    @property
    def firewall(self) -> Any:
        """The emulated pfSense."""
        return self.world.systems["pfsense"]

    def writes(self) -> int:
        """Count the writing calls that the firewall has taken."""
        return sum(one["verb"] == "apply" for one in self.firewall.programs)

    def look(self) -> Look:
        """Read everything from the systems, once the network has followed them."""
        self.world.wires.settle()
        config, rules = self.firewall.firewall.config, self.firewall.rules()
        mail = [one for one in config["nat"]["rule"] if "Mail" in one["descr"] or "mailserver" in one["descr"]]
        targets = dict(line.split(" port ")[1].split(" -> ") for line in rules.splitlines() if line.startswith("rdr on"))
        ours = {one["destination"]["port"] for one in mail}
        return Look(
            {port: target.strip() for port, target in targets.items() if port in ours},
            frozenset(one["associated-rule-id"] for one in mail),
            frozenset(line.split()[1] for line in self.firewall.haproxy_cfg().splitlines() if line.startswith("frontend mail")),
            {name: state for name, state in self.firewall.firewall.stats().items() if "/k8s-node" in name},
            frozenset(one["name"] for one in config["aliases"]["alias"]),
            self._monitors(),
            str(self._service()["spec"]["type"]),
            frozenset(address for address in self.world.dialled if address[0] in (OLD, "10.0.20.1") and self.world.wires.open(address)),
            self.goes_by_proxy(),
        )

    def _monitors(self) -> dict[int, tuple[str, str]]:
        monitors = self.world.systems["uptime-kuma"].store.monitors
        return {number: (str(monitors[number]["hostname"]), str(monitors[number]["name"])) for number in (282, 283)}

    def _service(self) -> Any:
        services = self.world._cluster_api()("/api/v1/namespaces/mailserver/services")
        return next((one for one in services if one["metadata"]["name"] == "mailserver"), {"spec": {"type": ""}})

    def dial(self, address: str) -> tuple[str, int]:
        """Give the loopback port that stands for an address."""
        host, _, port = self.world.wires.connect_to()[address].rpartition(":")
        return host, int(port)

    def goes_by_proxy(self) -> bool:
        """Say whether a client of the WAN address arrives with a PROXY header. False, too, when it does not arrive."""
        clients = self.world.systems["probe"].doors["smtp-proxy"].clients
        before = len(clients)
        with suppress(OSError), socket.create_connection(self.dial(f"{self.wan}:25"), 5) as client:
            client.recv(512)
        return len(clients) > before

    def at_the_gui(self, change: Callable[[Any], object]) -> None:
        """Change the firewall as its administrator does."""
        self.firewall.edit(change)


def why(report: Report) -> tuple[str, ...]:
    """Give every reason for which something was not done."""
    left = report.remaining
    return (
        *(f"held by {one.guard}: {one.change.id}: {one.reason}" for one in left.held if not one.quiet),
        *(f"{one.status}: {one.id}: {one.reason}" for one in left.stuck),
        *(f"{one.status}: {one.id}: {one.message}" for one in report.outcomes if one.status not in ("applied", "unchanged")),
    )


def by_hand(config: Any) -> None:
    """What the firewall held before anything of it was in git: an alias, four forwards that use it, and one more that is nobody's."""
    config["aliases"]["alias"].append({"name": "mailserver", "type": "host", "address": OLD, "descr": "Mail", "detail": ""})
    for number, port in enumerate((25, 465, 587, 993, 143)):
        link = f"nat_65f0c0ffee0002.0000000{number}"
        where = {"interface": "wan", "ipprotocol": "inet", "protocol": "tcp", "source": {"any": ""}, "associated-rule-id": link}
        there = {"network": "wanip", "port": str(port)}
        forward = {**where, "destination": there, "target": "mailserver", "local-port": str(port), "descr": f"Mail {port}"}
        rule = {**where, "type": "pass", "destination": {"address": "mailserver", "port": str(port)}, "descr": f"NAT Mail {port}"}
        config["nat"]["rule"].append(forward)
        config["filter"]["rule"].append({**rule, "tracker": f"170000010{number}"})


def without_143(config: Any) -> None:
    """The administrator deletes the forward that nobody had in git."""
    for section in (config["nat"], config["filter"]):
        section["rule"] = copy.deepcopy([one for one in section["rule"] if not one.get("associated-rule-id", "").endswith("00000004")])


class Letters:
    """A stranger's server that sends all the time, and tries each letter again until it is taken (RFC 5321, 4.5.4)."""

    def __init__(self, story: Story) -> None:
        """Nothing is sent yet."""
        self.story, self.sent, self.retries = story, list[str](), 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="letters")

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send the last letter to its end."""
        self._end.set()
        self._thread.join(timeout=20)

    def arrived(self) -> set[str]:
        """Give the subjects in the catch-all mailbox."""
        boxes = self.story.world.systems["probe"].store.boxes
        return {one.header("Subject") for box in boxes.values() for one in box}

    def _work(self) -> None:
        for number in itertools.count():
            subject, tries = f"letter {number}", 0
            while not self._send(subject):
                tries += 1
                if self._end.wait(0.1) and tries > 50:
                    return
            self.retries += tries
            self.sent.append(subject)
            if self._end.wait(0.4):
                return

    def _send(self, subject: str) -> bool:
        letter = EmailMessage()
        letter["From"], letter["To"], letter["Subject"] = "friend@elsewhere.example", "anybody@viktorbarzin.me", subject
        letter.set_content("Hello\n")
        try:
            host, port = self.story.dial(f"{self.story.wan}:25")
            with smtplib.SMTP(host, port, "client.example", 5) as server:
                server.send_message(letter)
        except (OSError, smtplib.SMTPException):
            return False
        return True
