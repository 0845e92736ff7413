"""What one revision asks for: its stacks by name, from a commit or from a working tree. Reads git and files; asks no system."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from reconciler.errors import InputError, Problem
from reconciler.load import load_stack, stack_names
from reconciler.registry import Catalog
from reconciler.source import Revision, WorkingTree
from reconciler.stack import STACK_FILE, Stack


@dataclass(frozen=True, slots=True)
class Desired:
    """What one revision asks for: its stacks by name, and the folder that they lie in."""

    revision: Revision
    folder: str
    names: tuple[str, ...]

    def load(self, name: str, kinds: Catalog, today: date) -> Stack:
        """Load one stack. Raises InputError with every problem; SourceError never."""
        if name not in self.names:
            there = ", ".join(self.names) or "none"
            raise InputError(
                [Problem(self.folder or ".", 0, f"there is no stack {name!r}; a stack is a folder with a {STACK_FILE}: {there}")]
            )
        return load_stack(self.revision.tree, f"{self.folder}/{name}" if self.folder else name, kinds, today=today)


def desired_from(revision: Revision, folder: str) -> Desired:
    """Find the stacks of a revision."""
    return Desired(revision, folder, tuple(stack_names(revision.tree, folder)))


def desired_below(path: Path, folder: str = "desired", *, about: bool = True) -> Desired:
    """Read a working tree: ``path`` is a stack, a folder of stacks, or a repository with the folder of stacks inside it.

    Without ``about`` the revision says nothing of its commit. Raises SourceError or InputError.
    """
    tree = WorkingTree(about=about)
    if (path / STACK_FILE).is_file():
        root, below = _root(path)
        parent, _, name = below.rpartition("/")
        return Desired(tree.read(root, below), parent, (name,))
    inside = path / folder if (path / folder).is_dir() else path
    root, below = _root(inside)
    found = desired_from(tree.read(root, below), below)
    if not found.names:
        raise InputError([Problem(str(path), 0, f"there is no stack here; a stack is a folder with a {STACK_FILE}")])
    return found


def _root(path: Path) -> tuple[Path, str]:
    """Split a path so that problems name files as the person who typed it would."""
    if path.is_absolute() or ".." in path.parts or path == Path():
        full = path.resolve()
        return full.parent, full.name
    return Path(), path.as_posix()


def chosen(desired: Desired, wanted: Sequence[str]) -> Sequence[str]:
    """Give the stacks that were asked for, or all."""
    return wanted or desired.names
