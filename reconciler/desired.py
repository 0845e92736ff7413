"""What one revision asks for: its stacks by name, from a commit or from a working tree. Reads git and files; asks no system."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path, PurePosixPath

from reconciler.errors import InputError, Problem
from reconciler.load import load_stack
from reconciler.registry import Catalog
from reconciler.remembered import remembered
from reconciler.source import Revision, WorkingTree
from reconciler.stack import STACK_FILE, Stack


@dataclass(frozen=True, slots=True)
class Desired:
    """What one revision asks for: its stacks by name, and the folder that they lie in.

    ``rewritten`` is true when this revision does not descend from the one before it, as after a force-push. ``source`` names the
    repository that it comes from; empty for a working tree. ``older`` is true when a newer revision is there and is not trusted.
    """

    revision: Revision
    folder: str
    names: tuple[str, ...]
    rewritten: bool = False
    source: str = ""
    older: bool = False

    def load(self, name: str, kinds: Catalog, today: date) -> Stack:
        """Load one stack. Raises InputError with every problem; SourceError never."""
        if name not in self.names:
            there = ", ".join(self.names) or "none"
            raise InputError(
                [Problem(self.folder or ".", 0, f"there is no stack {name!r}; a stack is a folder with a {STACK_FILE}: {there}")]
            )
        return load_stack(self.revision.tree, str(PurePosixPath(self.folder, name)), kinds, today=today, reading=remembered.read)


def desired_from(revision: Revision, folder: str) -> Desired:
    """Find the stacks of a revision."""
    return Desired(revision, folder, tuple(stack_names(revision.tree, folder)))


def desired_below(path: Path, folder: str = "desired", *, about: bool = True) -> Desired:
    """Read a working tree: ``path`` is a stack, a folder of stacks, or a repository with the folder of stacks inside it.

    Without ``about`` the revision says nothing of its commit. Raises SourceError or InputError.
    """
    tree = WorkingTree(about=about)
    if (path / STACK_FILE).is_file():
        revision, shown = _read(tree, path)
        return Desired(revision, str(PurePosixPath(shown).parent), (posixpath.basename(shown),))
    inside = path / folder if (path / folder).is_dir() else path
    found = desired_from(*_read(tree, inside))
    if not found.names:
        raise InputError([Problem(str(path), 0, f"there is no stack here; a stack is a folder with a {STACK_FILE}")])
    return found


def _read(tree: WorkingTree, path: Path) -> tuple[Revision, str]:
    """Read a folder; give it with its path. Files and problems are named as the person who typed ``path`` would open them."""
    if not (path.is_absolute() or ".." in path.parts or path == Path()):
        return tree.read(Path(), path.as_posix()), path.as_posix()
    full = path.resolve()
    shown = posixpath.normpath(path.as_posix())
    if posixpath.basename(shown) in (".", ".."):  # a stack is called as its folder is
        shown = posixpath.normpath(f"{shown}/../{full.name}")
    try:
        revision = tree.read(full.parent, full.name)
    except InputError as error:
        raise InputError(replace(one, file=shown + one.file.removeprefix(full.name)) for one in error.problems) from None
    files = {shown + name.removeprefix(full.name): content for name, content in revision.tree.items()}
    return replace(revision, tree=files), shown


def chosen(desired: Desired, wanted: Sequence[str]) -> Sequence[str]:
    """Give the stacks that were asked for, or all."""
    return wanted or desired.names


def stack_names(tree: Mapping[str, bytes], below: str = "desired") -> list[str]:
    """List the stacks of a tree: every folder below ``below`` with a ``stack.yaml``."""
    prefix = f"{below}/" if below else ""
    suffix = f"/{STACK_FILE}"
    return sorted(path[len(prefix) : -len(suffix)] for path in tree if path.startswith(prefix) and path.endswith(suffix))
