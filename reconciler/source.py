"""The git side: a branch is mirrored, and a commit is read as bytes without ever being checked out.

No hook, filter or symlink of the repository runs or is followed, because nothing of it is written to disk outside git's own objects.
This room knows neither YAML nor resources; what the bytes mean is the loader's business.
"""

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path, PurePosixPath
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

from reconciler.committing import commit_files
from reconciler.errors import InputError, Problem, SettingsError, SourceError
from reconciler.git import HEX, Credentials, Git, check_branch, check_url, commit_id, masked
from reconciler.mirror import REWRITTEN, TRUSTED, Mirror, is_broken
from reconciler.signatures import UNASKED, SignaturePolicy, verify

if TYPE_CHECKING:
    from git import Repo

log = logging.getLogger(__name__)

SYMLINK, SUBMODULE = "120000", "160000"
EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Revision:
    """The immutable tree of one commit. ``tree`` maps posix paths to contents; ``time`` is the committer's, aware.

    ``signed`` names the kind of signature that the commit carries (``openpgp``, ``ssh``, ``x509``, or empty); it is not verified here.
    """

    commit: str
    tree: Mapping[str, bytes]
    author: str = ""
    subject: str = ""
    time: datetime = EPOCH
    signed: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a repository may be read: bytes of one file, number of files, bytes of all files together."""

    file_bytes: int = 5 * 1024 * 1024
    files: int = 10_000
    total_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a tree: mode, object id, size in bytes (0 for a submodule) and the path from the root of the repository."""

    mode: str
    oid: str
    size: int
    path: bytes

    @property
    def name(self) -> str:
        """The path for people, bytes that are not UTF-8 escaped."""
        return self.path.decode("utf-8", "backslashreplace")


class GitSource:
    """One branch or tag of one repository, kept in a bare mirror below ``directory``.

    The mirror is a cache: it may be deleted at any time. ``rewritten`` is True when the last fetch found a head that does not descend
    from the one before it, as after a force-push, and stays so until that head is followed by another, also over a restart.
    Raises SettingsError when the address, the branch or the tag cannot be used.
    """

    def __init__(
        self,
        url: str,
        branch: str = "main",
        directory: Path = Path("/var/cache/reconciler"),
        *,
        tag: str = "",
        depth: int = 0,
        credentials: Credentials | None = None,
        signatures: SignaturePolicy = UNASKED,
        timeout: float = 60.0,
        limits: Limits = Limits(),
        allow_file: bool = False,
    ) -> None:
        """Check the settings; neither the network nor the disk is touched yet.

        ``tag`` is followed instead of ``branch``. ``depth`` is how many commits a new mirror begins with, 0 for all. ``timeout`` in
        seconds for each git command.
        """
        check_url(url, allow_file=allow_file)
        check_branch(tag or branch)
        self.url, self.limits, self.rewritten, self.signatures = url, limits, False, signatures
        self.what = f"tag {tag}" if tag else f"branch {branch}"
        self.mirror = directory / f"{sha256(f'{url} {self.what if tag else branch}'.encode()).hexdigest()[:16]}.git"
        self._ref = f"refs/tags/{tag}" if tag else f"refs/heads/{branch}"
        self._depth = depth
        self._lock = threading.Lock()
        credentials = credentials or Credentials()
        self._git = Git(
            masked(url),
            timeout,
            credentials.environment(),
            credentials.configuration(url),
            credentials.secrets(),
            allow_file=allow_file,
        )
        self._mirror = Mirror(self.mirror, self._git)

    def head(self) -> str:
        """Ask the server for the newest commit; cheap, and nothing is fetched."""
        peeled = f"{self._ref}^{{}}"  # what an annotated tag points to
        lines = self._git.run("ls-remote", "--", self.url, self._ref, peeled).decode("utf-8", "replace").splitlines()
        found = {ref: commit for commit, ref in (line.split("\t", 1) for line in lines if "\t" in line) if HEX.fullmatch(commit)}
        commit = found.get(peeled) or found.get(self._ref)
        if commit is None:
            raise SourceError(self._vanished())
        return commit

    def fetch(self) -> str:
        """Bring the branch into the mirror and give its newest commit. Sets ``rewritten``."""
        with self._lock, self._mirror.opened():
            before = ""
            try:
                before = self._mirror.known(self._ref)
                self._bring(self.mirror, before)
            except SourceError as error:
                before = self._anew(error) or before
            after = self._mirror.known(self._ref)
            lost = bool(before) and not self._descends(after, before)
            if lost:
                log.warning("%s: %s was rewritten: %s does not descend from %s", masked(self.url), self.what, after, before)
                self._mirror.mark(REWRITTEN, after)
            self.rewritten = self._mirror.known(REWRITTEN) == after
            return after

    def _bring(self, mirror: Path, before: str = "") -> None:
        """Fetch the one ref. Only a new mirror is made shallow: later commits are fetched with everything between."""
        shallow = [f"--depth={self._depth}"] if self._depth and not before else []
        try:
            self._git.run("fetch", "--no-tags", "--force", *shallow, "--", self.url, f"+{self._ref}:{self._ref}", cwd=mirror)
        except SourceError as error:
            if "couldn't find remote ref" in str(error):
                raise SourceError(self._vanished(before)) from None
            raise

    def _anew(self, error: SourceError) -> str:
        """Make a broken mirror anew and give the commit that it stood at; raise what is no damage."""
        if not is_broken(error):
            raise error
        return self._mirror.anew(self._bring, self._ref, error)

    def descends(self, commit: str, ancestor: str) -> bool:
        """Say whether ``commit`` is ``ancestor`` or was made on top of it. False when the mirror does not know one of them."""
        with self._lock, self._mirror.opened():  # while another process makes the mirror anew, none of its commits is known
            return self._descends(commit, ancestor)

    def _descends(self, commit: str, ancestor: str) -> bool:
        try:
            base = self._git.run("merge-base", "--", commit_id(commit), commit_id(ancestor), cwd=self.mirror)
        except SourceError:
            return False
        return base.decode().strip() == ancestor

    def read(self, commit: str, below: str | Sequence[str] = "desired") -> Revision:
        """Read every file below the folder(s) at ``commit``; paths count from the root of the repository.

        Raises SourceError when the commit or a folder is not there, Untrusted when it is not signed as the policy wants it, InputError with
        every file that may not be used.
        """
        folders = [clean_folder(folder) for folder in ([below] if isinstance(below, str) else below)]
        commit_id(commit)
        with self._lock, self._mirror.opened():
            try:
                return self._read(commit, folders)
            except SourceError as error:
                if "is not in the mirror" in str(error) and not self._mirror.stands_at(self._ref, commit):
                    raise  # nobody fetched it; that is no damage
                self._anew(error)
                return self._read(commit, folders)

    def _read(self, commit: str, folders: Sequence[str]) -> Revision:
        about = describe(self.mirror, commit, self._git)
        self._trust(commit)
        entries = [entry for folder in folders for entry in self._entries(commit, folder)]
        refuse(judge(entries, self.limits))
        return replace(about, tree=self._contents(entries))

    def _trust(self, commit: str) -> None:
        """Check the signatures that the policy wants, and remember how far history is trusted."""
        if self.signatures.mode == "none":
            return
        trusted = self._mirror.known(TRUSTED)
        verify(self._git, self.mirror, commit, trusted, self.signatures)
        if not (trusted and self._descends(trusted, commit)):
            self._mirror.mark(TRUSTED, commit)

    def trusted(self) -> str:
        """Give the newest commit that was found trustworthy before, or nothing; also when the policy asks for nothing."""
        if self.signatures.mode == "none":
            return ""
        with self._lock, self._mirror.opened():
            return self._mirror.known(TRUSTED)

    def propose(self, branch: str, onto: str, files: Mapping[str, bytes], message: str) -> str:
        """Make a commit of ours on top of ``onto`` and push it as a new branch. Gives the commit. Raises SourceError, SettingsError."""
        check_branch(branch)
        with self._lock, self._mirror.opened():
            commit = commit_files(self._git, self.mirror, commit_id(onto), files, message)
            # the empty lease: a branch of this name that is there already is never moved
            target = f"refs/heads/{branch}"
            self._git.run("push", "--quiet", f"--force-with-lease={target}:", "--", self.url, f"{commit}:{target}", cwd=self.mirror)
            return commit

    def branch(self, name: str) -> str:
        """Ask the server for the commit of a branch; empty when there is none of that name. Raises SourceError, SettingsError."""
        check_branch(name)
        ref = f"refs/heads/{name}"
        lines = self._git.run("ls-remote", "--", self.url, ref).decode("utf-8", "replace").splitlines()
        return next((line.split("\t")[0] for line in lines if line.endswith(f"\t{ref}")), "")

    def _entries(self, commit: str, folder: str) -> list[Entry]:
        """List a folder at a commit, links and submodules included."""
        output = self._git.run("ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", *([folder] if folder else []), cwd=self.mirror)
        entries = [parse_entry(line) for line in output.split(b"\0") if line]
        if not entries:
            raise SourceError(f"{masked(self.url)}: there is no folder {folder or '/'} at {commit[:12]}; create it or name another one")
        return entries

    def _contents(self, entries: Iterable[Entry]) -> dict[str, bytes]:
        """Read the objects, all in one process."""
        paths = {entry.path.decode(): entry.oid for entry in entries}
        wanted = sorted(set(paths.values()))
        output = self._git.run("cat-file", "--batch", "--buffer", cwd=self.mirror, data="".join(f"{oid}\n" for oid in wanted).encode())
        contents, position = {}, 0
        for oid in wanted:
            end = output.index(b"\n", position)
            if output[position:end].endswith(b" missing"):
                raise SourceError(f"{masked(self.url)}: the mirror lacks object {oid}; delete {self.mirror}, it is only a cache")
            size = int(output[position:end].split(b" ")[2])
            contents[oid] = output[end + 1 : end + 1 + size]
            position = end + 2 + size
        return {path: contents[oid] for path, oid in sorted(paths.items())}

    def _vanished(self, before: str = "") -> str:
        seen = f"; it was last seen at {before}" if before else ""
        return f"{masked(self.url)}: {self.what} does not exist{seen}; create it or name another one"


class WorkingTree:
    """A plain directory, read by the same rules as a commit, for a plan of what is not committed yet."""

    def __init__(self, limits: Limits = Limits(), *, about: bool = True) -> None:
        """Keep the limits. Without ``about`` git is not asked which commit this is, which takes longer than all the rest."""
        self.limits, self.about = limits, about

    def read(self, path: Path, below: str = "") -> Revision:
        """Read every file below ``path``/``below``; paths count from ``path``.

        The commit is the HEAD of the git repository round it, with ``-dirty`` behind it when something below ``path`` differs, or empty.
        Raises SourceError when the directory is not there, InputError with every file that may not be used.
        """
        start = path / clean_folder(below)
        if not start.is_dir():
            raise SourceError(f"{start}: there is no such directory")
        try:
            entries = list(walk(path, start))
            refuse(judge(entries, self.limits))
            tree = {entry.name: (path / entry.name).read_bytes() for entry in entries}
        except OSError as error:
            raise SourceError(f"{error.filename}: {error.strerror}") from None
        return replace(working_copy(path) if self.about else Revision("", {}), tree=tree)


def walk(root: Path, folder: Path) -> Iterator[Entry]:
    """Yield what lies below ``folder`` in order, links unfollowed; git's own folder is passed over."""
    for item in sorted(folder.iterdir()):
        status = item.lstat()
        if S_ISDIR(status.st_mode):
            if item.name != ".git":
                yield from walk(root, item)
            continue
        mode = "100644" if S_ISREG(status.st_mode) else SYMLINK if item.is_symlink() else "special"
        yield Entry(mode, "", status.st_size, os.fsencode(item.relative_to(root).as_posix()))


def working_copy(path: Path) -> Revision:
    """Describe the git state of a directory, without its tree; only an empty commit where there is none."""
    git = Git(str(path))
    try:
        top = Path(git.run("rev-parse", "--show-toplevel", cwd=path).decode().rstrip("\n"))
        head = git.run("rev-parse", "--verify", "HEAD", cwd=path).decode().strip()
        dirty = git.run("status", "--porcelain", "-z", "--ignore-submodules=all", "--", ".", cwd=path)
        about = describe(top, head, git)
    except SourceError:
        return Revision("", {})
    return replace(about, commit=f"{head}-dirty" if dirty else head)


def repository(path: Path) -> "Repo":
    """Open a repository with GitPython. Raises SourceError when git is not installed."""
    try:
        from git import Repo
    except ImportError:
        raise SourceError("git is not installed; install it or put it on the path") from None
    return Repo(path, expand_vars=False)


def describe(path: Path, commit: str, git: Git) -> Revision:
    """Give a commit with everything but its tree. Raises SourceError when it is not there."""
    with repository(path) as repo:
        # a variable like GIT_DIR in our own environment would lead GitPython to another repository
        repo.git.update_environment(**git.env(), GIT_DIR=repo.git_dir)
        try:
            found = repo.commit(commit)
            author = f"{found.author.name} <{found.author.email}>"
            return Revision(commit, {}, author, str(found.summary), found.committed_datetime, signature_kind(found.gpgsig or ""))
        except (ValueError, OSError, LookupError):
            raise SourceError(f"{git.where}: commit {commit} is not in the mirror; fetch it first") from None


def signature_kind(signature: str) -> str:
    """Name the kind of a signature by its first line."""
    for kind, mark in (("openpgp", "PGP SIGNATURE"), ("openpgp", "PGP MESSAGE"), ("ssh", "SSH SIGNATURE"), ("x509", "SIGNED MESSAGE")):
        if signature.startswith(f"-----BEGIN {mark}"):
            return kind
    return ""


def parse_entry(line: bytes) -> Entry:
    """Read one line of ``git ls-tree -l -z``."""
    about, _, path = line.partition(b"\t")
    mode, _, oid, size = about.split()
    return Entry(mode.decode(), oid.decode(), 0 if size == b"-" else int(size), path)


def judge(entries: Sequence[Entry], limits: Limits) -> list[Problem]:
    """List everything about a tree that forbids its use."""
    problems = [Problem(entry.name, 0, reason) for entry in entries if (reason := fault(entry, limits))]
    if len(entries) > limits.files:
        problems.append(Problem(entries[0].name.split("/")[0], 0, f"{len(entries)} files are more than the {limits.files} that are read"))
    if (total := sum(entry.size for entry in entries)) > limits.total_bytes:
        problems.append(Problem(entries[0].name.split("/")[0], 0, f"{total} bytes are more than the {limits.total_bytes} that are read"))
    return problems


def fault(entry: Entry, limits: Limits) -> str:
    """Say why a file of the desired state may not be used; nothing when it may."""
    if entry.mode == SYMLINK:
        return "a symlink in the desired state is not followed; put the file itself in its place"
    if entry.mode == SUBMODULE:
        return "a submodule in the desired state is not read; put its files in this repository"
    if not entry.mode.startswith("100"):
        return "only plain files are read; remove it"
    try:
        name = entry.path.decode()
    except UnicodeDecodeError:
        return "the name of the file is not UTF-8; rename it"
    if set(name.split("/")) & {"", ".", ".."} or "\\" in name or not name.isprintable():
        return "the path leads out of its folder or holds characters that cannot be shown; rename it"
    if entry.size > limits.file_bytes:
        return f"{entry.size} bytes are more than the {limits.file_bytes} that are read of one file; split it"
    return ""


def refuse(problems: Sequence[Problem]) -> None:
    """Raise all problems together, if there are any."""
    if problems:
        raise InputError(problems)


def clean_folder(folder: str) -> str:
    """Give a folder as git wants it, without slashes at its ends; empty for the root. Raises SettingsError when it leads elsewhere."""
    parts = [part for part in PurePosixPath(folder).parts if part != "/"]
    if ".." in parts or folder.startswith(("/", ":")):
        raise SettingsError(f"{folder!r} is not a folder of the repository; write it from the root, e.g. desired")
    return "/".join(parts)
