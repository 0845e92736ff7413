"""A real git remote and a working copy of it: the owner of the demo edits files, commits and pushes like anybody else."""

import shutil
from collections.abc import Callable
from pathlib import Path

from reconciler.errors import SourceError
from reconciler.git import Git

OWNER = {
    "GIT_AUTHOR_NAME": "owner",
    "GIT_AUTHOR_EMAIL": "owner@demo.invalid",
    "GIT_COMMITTER_NAME": "owner",
    "GIT_COMMITTER_EMAIL": "owner@demo.invalid",
}


class Remote:
    """A bare repository below ``root`` and a clone of it."""

    def __init__(self, root: Path) -> None:
        """Create both, empty."""
        self._run = Git("the demo's repository", 30.0, OWNER, allow_file=True)
        self.bare, self.work = root / "desired.git", root / "desired-work"
        self._git(root, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        self._git(root, "clone", "--quiet", str(self.bare), str(self.work))

    @property
    def url(self) -> str:
        """The address the daemon fetches from."""
        return f"file://{self.bare}"

    def head(self) -> str:
        """Give the newest commit of the working copy."""
        return self._git(self.work, "rev-parse", "HEAD").strip()

    def copy(self, source: Path, folder: str) -> None:
        """Copy a tree of files into the working copy."""
        shutil.copytree(source, self.work / folder, dirs_exist_ok=True)

    def edit(self, file: str, change: Callable[[str], str]) -> None:
        """Change one file. Raises SourceError when the change changes nothing, because then the story does not fit the files."""
        path = self.work / file
        before = path.read_text(encoding="utf-8")
        after = change(before)
        if after == before:
            raise SourceError(f"{file}: the edit found nothing to change")
        path.write_text(after, encoding="utf-8")

    def push(self, message: str) -> str:
        """Commit everything, push it, and give the commit."""
        self._git(self.work, "add", "--all")
        self._git(self.work, "commit", "--quiet", "--message", message)
        self._git(self.work, "push", "--quiet", "origin", "HEAD:main")
        return self.head()

    def revert(self, message: str) -> str:
        """Take the newest commit back, push that, and give the commit."""
        self._git(self.work, "revert", "--no-edit", "HEAD")
        self._git(self.work, "commit", "--quiet", "--amend", "--message", message)
        self._git(self.work, "push", "--quiet", "origin", "HEAD:main")
        return self.head()

    def _git(self, folder: Path, *arguments: str) -> str:
        return self._run.run(*arguments, cwd=folder).decode()
