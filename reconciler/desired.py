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


def desired_below(path: Path, folder: str = "desired") -> Desired:
    """Read a working tree: ``path`` is a stack, a folder of stacks, or a repository with the folder of stacks inside it.

    Raises SourceError or InputError.
    """
    if (path / STACK_FILE).is_file():
        root = path.resolve()
        revision = WorkingTree().read(root.parent, root.name)
        return Desired(revision, "", (root.name,))
    inside = folder if (path / folder).is_dir() else ""
    found = desired_from(WorkingTree().read(path, inside), inside)
    if not found.names:
        raise InputError([Problem(str(path), 0, f"there is no stack here; a stack is a folder with a {STACK_FILE}")])
    return found


def chosen(desired: Desired, wanted: Sequence[str]) -> Sequence[str]:
    """Give the stacks that were asked for, or all."""
    return wanted or desired.names
