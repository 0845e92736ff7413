"""Writes a commit of ours without a working copy: objects and a tree, nothing else.

Who may see it, and as which branch, is decided elsewhere.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.errors import SourceError
from reconciler.git import Git

IDENTITY = {
    f"GIT_{who}_{part}": value
    for who in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Reconciler"), ("EMAIL", "reconciler@localhost"))
}


def commit_files(git: Git, repository: Path, onto: str, files: Mapping[str, bytes], message: str) -> str:
    """Make a commit on top of ``onto`` in which ``files`` (path to content) are as given. No ref moves. Raises SourceError.

    The mode of each file stays as it is; a file that ``onto`` does not have becomes a plain one.
    """
    with tempfile.TemporaryDirectory(prefix="reconciler-index-") as folder:
        ours = replace(git, environment={**git.environment, **IDENTITY, "GIT_INDEX_FILE": str(Path(folder, "index"))})
        ours.run("read-tree", onto, cwd=repository)
        lines = b""
        for path, content in files.items():
            entry = ours.run("ls-files", "--stage", "-z", "--", f":(literal){path}", cwd=repository)
            mode = entry.split(b" ", 1)[0] if entry else b"100644"
            blob = ours.run("hash-object", "-w", "--stdin", "--no-filters", cwd=repository, data=content).strip()
            lines += mode + b" " + blob + b"\t" + path.encode() + b"\0"
        ours.run("update-index", "--add", "-z", "--index-info", cwd=repository, data=lines)
        tree = ours.run("write-tree", cwd=repository).decode().strip()
        return ours.run("commit-tree", tree, "-p", onto, "-F", "-", cwd=repository, data=message.encode()).decode().strip()


def propose_in(git: Git, file: Path, branch: str, content: bytes, message: str) -> str:
    """Commit a file of a working copy with this content as a new branch; neither the branch that is checked out nor a file changes.

    Gives the commit. Raises SourceError when the file is in no repository, differs from its last commit, or the branch is there already.
    """
    folder = file.absolute().parent
    top = Path(git.run("rev-parse", "--show-toplevel", cwd=folder).decode().rstrip("\n"))
    inside = file.absolute().resolve().relative_to(top.resolve()).as_posix()
    if git.run("status", "--porcelain", "--", f":(literal,top){inside}", cwd=top):
        raise SourceError(f"{file}: differs from its last commit; commit or undo that first, or use --write")
    onto = git.run("rev-parse", "--verify", "HEAD", cwd=top).decode().strip()
    commit = commit_files(git, top, onto, {inside: content}, message)
    try:
        git.run("update-ref", f"refs/heads/{branch}", commit, "0" * len(commit), cwd=top)
    except SourceError:
        raise SourceError(f"{top}: the branch {branch} is there already, or cannot be made; choose another name") from None
    return commit
