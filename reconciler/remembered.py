"""What was read of YAML files before, so that a push that changes five files of ten thousand parses five.

A cache of ``documents.read`` and nothing more. Of each file it keeps what is in force and one other content, as a proposal's: what a push
replaced for good goes, so that a daemon does not grow with its history. Whoever gets documents from here may not change them: the next
one gets the same.
"""

from collections import OrderedDict
from threading import Lock
from typing import TypeAlias

from reconciler.documents import Document
from reconciler.documents import read as read_fresh
from reconciler.errors import Problem

Key: TypeAlias = tuple[str, bytes]
MOST = 16 * 1024 * 1024
"""Bytes of files whose documents are kept, those that were used last; as data they take about five times as much."""
LARGEST = 256 * 1024
CONTENTS = 2
"""Contents of one file that are kept, those that were used last."""


class Remembered:
    """Thread-safe. ``most`` bounds the bytes of all files together."""

    def __init__(self, most: int = MOST) -> None:
        """Begin with nothing."""
        self.most, self.bytes = most, 0
        self._lock = Lock()
        self._files: OrderedDict[Key, tuple[Document, ...]] = OrderedDict()
        self._contents: dict[str, list[bytes]] = {}

    def read(self, file: str, content: bytes) -> tuple[list[Document], list[Problem]]:
        """Read every document of a file, as ``documents.read`` does; one with problems is read anew each time."""
        key = (file, content)
        with self._lock:
            if (known := self._files.get(key)) is not None:
                self._files.move_to_end(key)
                self._contents[file].sort(key=content.__eq__)  # the one in use comes last
                return list(known), []
        documents, problems = read_fresh(file, content)
        if not problems and len(content) <= LARGEST:
            with self._lock:
                self._keep(key, tuple(documents))
        return documents, problems

    def _keep(self, key: Key, documents: tuple[Document, ...]) -> None:
        file, content = key
        if key in self._files:
            return
        self._files[key] = documents
        self.bytes += len(content)
        contents = self._contents.setdefault(file, [])
        contents.append(content)
        if len(contents) > CONTENTS:
            self._drop((file, contents[0]))
        while self.bytes > self.most:
            self._drop(next(iter(self._files)))

    def _drop(self, key: Key) -> None:
        file, content = key
        del self._files[key]
        self.bytes -= len(content)
        self._contents[file].remove(content)
        if not self._contents[file]:
            del self._contents[file]

    def __len__(self) -> int:
        """Count the files."""
        return len(self._files)


remembered = Remembered()
"""What this process has read."""
