"""Carries out what presses ask of git: what is offered there goes out as a branch for a person to merge, or as text into the thread.

Nothing of it counts before somebody merges it. A branch is pushed only where the settings allow it, always as a new one, and once for each
press; where that cannot be, the thread gets the text, with the reason.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from threading import Event

from reconciler.compose import Workshop, cache_of, git_source
from reconciler.daemon import cards, errands
from reconciler.daemon.errands import Errand
from reconciler.daemon.faces import pieces
from reconciler.daemon.force import InForce
from reconciler.errors import DriverError, ReconcilerError, SettingsError, SourceError, StoreError
from reconciler.git import masked
from reconciler.notify import Notice
from reconciler.notify.forge import Forge, opened
from reconciler.offering import Offer, adoption, lasting
from reconciler.repositories import Repository
from reconciler.state import Store

log = logging.getLogger("reconciler.offers")
TURN = " offers"
"""The name of the turn to do this; no stack's name begins with a space."""
PAUSE, AGAIN = 1.0, 5.0
TEXT = "given as text"


@dataclass(slots=True)
class Offers:
    """One thread's work. ``force`` gives what is in force of a stack. ``forge`` gives that of a repository.

    Pull requests are opened where there is one.
    """

    workshop: Workshop
    store: Store
    force: Callable[[str], InForce | None]
    forge: Callable[[str], Forge | None] = lambda repository: None

    def run(self, stop: Event) -> None:
        """Work until ``stop`` is set. What was not done is in the store."""
        pause = 0.0
        while not self.workshop.clock.wait(stop, pause):
            pause = self.once(stop)

    def once(self, stop: Event) -> float:
        """Do what is asked for; give the seconds until the next look."""
        try:
            with self.store.transaction() as connection:
                if not errands.owed(connection):
                    return PAUSE
            with self.store.sending(TURN) as turn:
                while turn is not None and turn.held() and not stop.is_set():
                    with self.store.transaction() as connection:
                        waiting = errands.owed(connection)
                    if not waiting:
                        break
                    self._do(*waiting[0])
        except StoreError as error:
            log.error("%s", error)
            return AGAIN
        except Exception as error:  # a bug here must not end what it is about
            log.exception("bug: what was asked for by a button is not done: %s", type(error).__name__)
            return AGAIN
        return PAUSE

    def _do(self, key: str, errand: Errand) -> None:
        """Do one errand, and tell the thread of its card what came of it. Of an adoption that came to nothing the press is forgotten."""
        try:
            notices, outcome = self._offered(key, errand)
        except StoreError:
            raise
        except ReconcilerError as error:
            notices, outcome = _failed(errand, str(error)), ""
        except Exception as error:  # the person who asked wants to hear of it, and the next errand is not to wait for ever
            log.exception("bug: what %s asked for failed: %s", errand.who, type(error).__name__)
            notices, outcome = _failed(errand, f"{type(error).__name__}; see the log"), ""
        now = self.workshop.clock.now()
        with self.store.transaction() as connection:
            if cards.find(connection, errand.card) is not None:
                for one in notices:
                    cards.add_note(connection, errand.card, asdict(one), now)
            if outcome or errand.documents:
                errands.done(connection, key, outcome or TEXT)
            else:
                errands.undone(connection, key)

    def _offered(self, key: str, errand: Errand) -> tuple[list[Notice], str]:
        """Offer what an errand is about. Gives what to tell, and what came of it; empty when it was only told."""
        force = self.force(errand.stack)
        if force is None or force.gone:
            raise ReconcilerError(f"{errand.stack}: there is no such stack in force any more")
        offer = self._offer(force, errand)
        if not offer.files:
            return [Notice("nothing can be taken into git", "warning", errand.stack, offer.left)], ""
        repository = self.workshop.settings.sources().get(force.desired.source)
        if repository is None or not repository.propose:
            return _text(errand, offer), TEXT
        branch = branch_name(self.workshop.settings.instance, key, errand)
        try:
            link, lines = self._pushed(force, repository, branch, offer, errand.who)
        except (SourceError, SettingsError) as error:
            log.error("%s: what %s asked for could not be pushed: %s", errand.stack, errand.who, error)
            return _text(errand, offer, f"no branch could be pushed: {error}"), ""
        return [Notice("proposed", "info", errand.stack, (*lines, *_left(offer)), link=link)], f"pushed as {branch}"

    def _offer(self, force: InForce, errand: Errand) -> Offer:
        kinds, today = self.workshop.kinds, self.workshop.today()
        if errand.documents:
            return lasting(force.desired, errand.stack, errand.documents, kinds, today)
        with self.workshop.engine(self.store) as engine:
            return adoption(engine, force.desired, errand.stack, errand.drifts, kinds, today)

    def _pushed(self, force: InForce, repository: Repository, branch: str, offer: Offer, who: str) -> tuple[str, tuple[str, ...]]:
        """Push an offer, unless an earlier try did, and open a pull request where there is a forge. Gives a link and what to tell."""
        source, message = git_source(repository, cache_of(self.workshop.settings)), f"{offer.message}\nAsked for by {who} in Slack.\n"
        if not source.branch(branch):
            source.propose(branch, force.desired.revision.commit, offer.files, message)
        pushed = f"pushed as branch {branch}"
        forge = self.forge(force.desired.source)
        if forge is None or repository.tag:
            return _site(repository), (f"{pushed}; merge it when it is right",)
        title, _, body = message.partition("\n")
        try:
            return opened(forge, branch, repository.branch, title, _quoted(body)), (f"{pushed}; its pull request is open",)
        except DriverError as error:
            log.error("no pull request was opened for %s: %s", branch, error)
            return _site(repository), (f"{pushed}; merge it when it is right", f"no pull request was opened: {error}")


def _quoted(text: str) -> str:
    """Give a text that a forge shows as it stands, so that nothing live becomes a mention there."""
    return "```text\n" + text.strip().replace("```", "` ` `") + "\n```\n"


def branch_name(instance: str, key: str, errand: Errand) -> str:
    """Give the branch of a press: the same for the same press, so that one that was done twice is one branch."""
    what = "acknowledge" if errand.documents else "adopt"
    about = next(iter(errand.drifts)) if len(errand.drifts) == 1 else errand.stack
    plain = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in about.lower())
    slug = "-".join(part for part in plain.split("-") if part)[:60].rstrip("-")
    return f"reconciler/{what}-{slug}-{sha256(f'{instance} {key}'.encode()).hexdigest()[:10]}"


def _text(errand: Errand, offer: Offer, trouble: str = "") -> list[Notice]:
    """Give an offer as text to copy, with what is not in it and what kept it from being more."""
    how = "to make it last, commit this:" if errand.documents else "to take it into git, apply this:"
    lines = (*((trouble,) if trouble else ()), how, *_left(offer))
    return pieces(Notice("to be committed", "info", errand.stack, lines), offer.text)


def _failed(errand: Errand, trouble: str) -> list[Notice]:
    """Say why nothing could be offered; what was acknowledged is given as it is."""
    if errand.documents:
        return _text(errand, Offer({}, "", errand.documents), f"no branch could be made: {trouble}")
    return [Notice("nothing can be taken into git", "warning", errand.stack, tuple(trouble.splitlines()))]


def _left(offer: Offer) -> list[str]:
    return [f"not taken over: {one}" for one in offer.left]


def _site(repository: Repository) -> str:
    """Give the page of a repository, which every forge has where the repository is; empty where no browser goes."""
    url = masked(repository.url)
    return url.removesuffix(".git") if url.startswith("https://") and "@" not in url else ""
