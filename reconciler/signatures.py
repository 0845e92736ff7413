"""Whether commits may be trusted: by the exit code of git's own verification and by ``%G?``, never by what a program prints.

Keys come from outside of the repository. This room asks git and gpg; what follows from a commit that is not trusted is decided elsewhere.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from reconciler.errors import Problem, SourceError, Untrusted
from reconciler.git import Git, commit_id

SHOWN = 10
BATCH = 200
FORMAT = "--format=%H%x00%G?%x00%GK%x00%s%x00%an <%ae>"
SAYS = {
    "N": "is not signed; sign it, e.g. with git commit --amend --gpg-sign",
    "E": "is signed with a key that is not known here{key}; add it to the keys of the settings, or have a known person sign",
    "U": "is signed with a key that nobody vouches for{key}; add it to the allowed signers, or give it trust in the keyring",
    "B": "carries a signature that does not fit it; it was changed after it was signed",
    "X": "carries a signature that has expired{key}; sign it anew",
    "Y": "is signed with a key that has expired{key}; renew the key, or sign with another one",
    "R": "is signed with a key that was revoked{key}; have another person sign",
}
"""What ``%G?`` says -> what it means and what to do. See "Pretty formats" in git-log(1)."""


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """Which commits must be signed, and by whom.

    ``head``: the commit that is read. ``strict``: it and every commit since the last trusted one, or, before there is one, since ``since``
    (a commit id; empty: since the beginning). ``allowed_signers`` is a file for SSH keys as ssh-keygen(1) describes it, ``gpg_keys`` a file
    of OpenPGP public keys, all of which are trusted, and ``gnupg_home`` a keyring whose trust settings count.
    """

    mode: Literal["none", "head", "strict"] = "none"
    allowed_signers: Path | None = None
    gpg_keys: Path | None = None
    gnupg_home: Path | None = None
    since: str = ""


UNASKED = SignaturePolicy()


@dataclass(frozen=True, slots=True)
class Signed:
    """One commit with what git says of its signature."""

    commit: str
    letter: str
    key: str
    subject: str
    author: str

    def problem(self) -> Problem:
        """Say who made the commit and what is wrong with it."""
        key = f" ({self.key})" if self.key else ""
        reason = SAYS.get(self.letter, "carries a signature that cannot be checked{key}").format(key=key)
        about = f"by {self.author} ({self.subject[:80]})"
        return Problem(f"commit {self.commit[:12]}", 0, "".join(one if one.isprintable() else "?" for one in f"{about} {reason}"))


def verify(git: Git, mirror: Path, commit: str, trusted: str, policy: SignaturePolicy) -> None:
    """Check what the policy wants checked of ``commit``. Raises Untrusted naming every commit that is not, SourceError when git cannot say.

    ``trusted`` is the last commit that was found trustworthy, or empty.
    """
    commits = [] if policy.mode == "none" else [commit]
    if policy.mode == "strict":
        below = [f"^{one}" for one in (trusted, _beginning(git, mirror, policy)) if one]
        listed = git.run("rev-list", commit, *below, "--", cwd=mirror).decode().split()
        commits = list(dict.fromkeys(listed))
    if not commits:
        return  # what was trusted before stays so, also when its key no longer counts
    with keyring(policy) as home:
        asking = replace(
            git,
            environment={**git.environment, "GNUPGHOME": str(home)},
            configuration={
                **git.configuration,
                "gpg.ssh.allowedSignersFile": str(policy.allowed_signers or os.devnull),
                "gpg.x509.program": "false",  # whose certificates count is not ours to say
                "gpg.minTrustLevel": "fully",
            },
        )
        bad = [one for some in _some(commits) for one in ask(asking, mirror, some) if one.letter != "G"]
        if bad:
            raise Untrusted(shown(bad))
        for some in _some(commits):
            asking.run("verify-commit", "--", *some, cwd=mirror)


def _beginning(git: Git, mirror: Path, policy: SignaturePolicy) -> str:
    if not policy.since:
        return ""
    try:
        git.run("cat-file", "-e", f"{commit_id(policy.since)}^{{commit}}", cwd=mirror)
    except SourceError:
        raise SourceError(f"{git.where}: signatures.since names {policy.since[:12]}, which is no commit of this repository") from None
    return policy.since


def ask(git: Git, mirror: Path, commits: Sequence[str]) -> list[Signed]:
    """Let git say what it thinks of each signature."""
    output = git.run("log", "--no-walk=unsorted", "-z", FORMAT, "--stdin", cwd=mirror, data="".join(f"{one}\n" for one in commits).encode())
    parts = output.decode("utf-8", "replace").removesuffix("\0").split("\0")
    found = [Signed(*parts[start : start + 5]) for start in range(0, len(parts) - 4, 5)]
    if {one.commit for one in found} != set(commits):
        raise SourceError(f"{git.where}: git did not say of every commit whether it is signed; nothing of it is used")
    return found


def _some(commits: Sequence[str]) -> Iterator[Sequence[str]]:
    """Give so many at a time as fit into one call."""
    return (commits[start : start + BATCH] for start in range(0, len(commits), BATCH))


def shown(bad: Sequence[Signed]) -> list[Problem]:
    """Name the first of the commits that are not trusted, and count the others."""
    problems = [one.problem() for one in bad[:SHOWN]]
    if len(bad) > SHOWN:
        problems.append(Problem(f"commit {bad[SHOWN].commit[:12]}", 0, f"and {len(bad) - SHOWN} more that are not trusted"))
    return problems


@contextmanager
def keyring(policy: SignaturePolicy) -> Iterator[Path]:
    """Give a home for gpg that knows the keys of the policy and no others; never that of whoever runs us."""
    if policy.gnupg_home is not None:
        if not policy.gnupg_home.is_dir():
            raise SourceError(f"{policy.gnupg_home}: the keyring does not exist; make it, or name the keys as gpg_keys")
        yield policy.gnupg_home
        return
    with tempfile.TemporaryDirectory(prefix="reconciler-keys-") as folder:
        if policy.gpg_keys is not None:
            _import(Path(folder), policy.gpg_keys)
        yield Path(folder)


def _import(home: Path, keys: Path) -> None:
    (home / "gpg.conf").write_text("trust-model always\nno-auto-key-retrieve\n", encoding="utf-8")
    program = shutil.which("gpg")
    if program is None:
        raise SourceError("gpg is not installed, so OpenPGP signatures cannot be checked; install it or put it on the path")
    command = [program, "--homedir", str(home), "--batch", "--no-autostart", "--quiet", "--import", "--", str(keys)]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False)  # noqa: S603 - fixed program
    except subprocess.TimeoutExpired:
        raise SourceError(f"{keys}: gpg did not read the keys within 30 s") from None
    if done.returncode:
        raise SourceError(f"{keys}: gpg cannot read the keys; export them with gpg --export --armor")
