"""The bare mirror of a repository: held by one process at a time, made when it is missing, made anew beside it when it is broken.

A mirror is a cache and holds nothing that could not be fetched again, but for two marks of ours: the last commit that was trusted, and
the commit at which history was last seen rewritten. This room knows refs and files of git; which ref counts is ``source``'s business.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path

from reconciler.errors import SourceError
from reconciler.git import HEX, Git

log = logging.getLogger(__name__)

TRUSTED, REWRITTEN = "refs/reconciler/trusted", "refs/reconciler/rewritten"
BROKEN = (
    "corrupt", "bad object", "not a git repository", "inflate", "unable to read", "unable to parse", "invalid object", "missing",
    "cannot be accessed", "valid object", "bad config", "bad signature", "broken", "is empty", "lacks object", "unresolved delta",
    "unable to resolve reference", "is not in the mirror", "could not parse",
)  # fmt: skip
"""What git says of its own files when they are damaged."""


@dataclass(frozen=True)
class Mirror:
    """One bare repository at ``path``."""

    path: Path
    git: Git

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the mirror alone, made if need be and without the lock files that a killed process leaves behind."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.with_suffix(".lock").open("w") as guard:
                fcntl.flock(guard, fcntl.LOCK_EX)
                if not (self.path / "HEAD").exists():
                    self.make(self.path)
                for stale in [*self.path.glob("*.lock"), *(self.path / "refs").rglob("*.lock")]:
                    stale.unlink()
                yield
        except OSError as error:
            if error.errno == ENOSPC:
                raise SourceError(f"{self.path}: the disk is full; make room, nothing else is lost") from None
            raise SourceError(f"{self.path}: {error.strerror}; the mirror needs a directory that can be written") from None

    def make(self, path: Path) -> None:
        """Make an empty mirror."""
        path.mkdir(parents=True, exist_ok=True)
        # not by GitPython, whose init obeys a GIT_DIR in our own environment
        self.git.run("init", "--quiet", "--bare", "--template=", "--", str(path))

    def known(self, ref: str) -> str:
        """Give the commit that a ref stands for, or nothing. Raises SourceError when the mirror is broken."""
        found = self.git.run("for-each-ref", "--format=%(objectname) %(*objectname)", "--", ref, cwd=self.path).decode().split()
        return found[-1] if found else ""

    def mark(self, ref: str, commit: str) -> None:
        """Let one of our marks stand for a commit; for none, when it is empty."""
        self.git.run("update-ref", *([ref, commit] if commit else ["-d", ref]), cwd=self.path)

    def anew(self, bring: Callable[[Path], None], ref: str, why: SourceError) -> str:
        """Fetch everything again beside the broken mirror and put it in its place. Gives the commit that the broken one stood at.

        The broken one is kept as ``.broken`` for whoever wants to look; when the new one cannot be made, it stays where it is.
        """
        fresh, aside = self.path.with_suffix(".new"), self.path.with_suffix(".broken")
        shutil.rmtree(fresh, ignore_errors=True)
        remembered = {one: self._written(one) for one in (ref, TRUSTED, REWRITTEN)}
        self.make(fresh)
        try:
            bring(fresh)
        except SourceError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        for one in (TRUSTED, REWRITTEN):
            if remembered[one]:
                with suppress(SourceError):  # a commit that the server no longer has
                    self.git.run("update-ref", one, remembered[one], cwd=fresh)
        shutil.rmtree(aside, ignore_errors=True)
        self.path.rename(aside)
        fresh.rename(self.path)
        log.warning("the mirror was broken and has been fetched anew; the old one is %s: %s", aside, why)
        return remembered[ref]

    def stands_at(self, ref: str, commit: str) -> bool:
        """Say whether a ref names a commit, also where the mirror is too broken for git to say it."""
        return self._written(ref) == commit

    def _written(self, ref: str) -> str:
        """Read a ref without git, which may refuse to read anything at all."""
        try:
            text = (self.path / ref).read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return ""
        return text if HEX.fullmatch(text) else ""


def is_broken(error: SourceError) -> bool:
    """Say whether git complains about its own files, and not about the server or the network."""
    words = "; ".join(part for part in str(error).split("; ") if not part.startswith(("remote:", "fatal: remote error")))
    return "No space left" not in words and os.strerror(ENOSPC) not in words and any(sign in words for sign in BROKEN)
