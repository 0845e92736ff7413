"""What was read of YAML files before, so that a push that changes five files of ten thousand parses five.

A cache of ``documents.read`` and nothing more. Whoever gets documents from here may not change them: the next one gets the same.
"""

from collections import OrderedDict
from threading import Lock

from reconciler.documents import Document
from reconciler.documents import read as read_fresh
from reconciler.errors import Problem

MOST = 16 * 1024 * 1024
"""Bytes of files whose documents are kept, those that were used last; as data they take about five times as much."""
LARGEST = 256 * 1024


class Remembered:
    """Thread-safe. ``most`` bounds the bytes of all files together."""

    def __init__(self, most: int = MOST) -> None:
        """Begin with nothing."""
        self.most, self.bytes = most, 0
        self._lock = Lock()
        self._files: OrderedDict[tuple[str, bytes], tuple[Document, ...]] = OrderedDict()

    def read(self, file: str, content: bytes) -> tuple[list[Document], list[Problem]]:
        """Read every document of a file, as ``documents.read`` does; one with problems is read anew each time."""
        key = (file, content)
        with self._lock:
            if (known := self._files.get(key)) is not None:
                self._files.move_to_end(key)
                return list(known), []
        documents, problems = read_fresh(file, content)
        if not problems and len(content) <= LARGEST:
            self._keep(key, tuple(documents))
        return documents, problems

    def _keep(self, key: tuple[str, bytes], documents: tuple[Document, ...]) -> None:
        with self._lock:
            if key not in self._files:
                self._files[key] = documents
                self.bytes += len(key[1])
            while self.bytes > self.most:
                (_, oldest), _ = self._files.popitem(last=False)
                self.bytes -= len(oldest)

    def __len__(self) -> int:
        """Count the files."""
        return len(self._files)


remembered = Remembered()
"""What this process has read."""
