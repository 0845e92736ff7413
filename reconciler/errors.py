"""The error tree. This room defines what can go wrong and may import nothing.

::

    ReconcilerError
    ├── InputError          the desired state is wrong; carries every Problem found, with file and line
    │   └── Untrusted       a commit is not signed as the settings want it
    ├── SettingsError       the daemon's own settings are wrong
    ├── SourceError         the git repository cannot be read or is not trusted
    ├── StoreError          the database cannot be used just now; only memory is lost
    ├── TurnLost            another worker has the stack; this one stopped writing
    ├── PlanChanged         the world moved between the plan that somebody agreed to and its apply
    └── DriverError
        ├── Transient       worth another try; may carry the delay the server asked for
        └── Permanent       stops until an input changes
            └── Conflict    somebody else wrote between our reading and our writing; the next pass plans anew

Any other exception that reaches the engine is a bug of ours and is reported as one.
"""

from collections.abc import Iterable
from dataclasses import dataclass


class ReconcilerError(Exception):
    """Base of every failure that this program foresees. The message is lower case and says what to do."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with the desired state. ``line`` counts from 1; 0 means that the file as a whole is meant."""

    file: str
    line: int
    message: str
    resource: str = ""

    def __str__(self) -> str:
        """Give ``file:line: resource: message``, the form editors can jump to."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.resource}: {self.message}" if self.resource else f"{where}: {self.message}"


class InputError(ReconcilerError):
    """The desired state cannot be used. All problems are reported together, sorted by place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep ``problems`` sorted and without repetition."""
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Untrusted(InputError):
    """A commit is not signed as the settings want it. Nothing of it is used; what was in force stays."""


class SettingsError(ReconcilerError):
    """The settings file or the environment is wrong."""


class SourceError(ReconcilerError):
    """The repository could not be fetched, verified or read."""


class StoreError(ReconcilerError):
    """The database could not be read or written. ``broken`` is True when trying again cannot help. Passes go on without a memory."""

    def __init__(self, message: str, *, broken: bool = False) -> None:
        """Keep whether the file itself is damaged."""
        self.broken = broken
        super().__init__(message)


class TurnLost(ReconcilerError):
    """The turn at a stack went to another worker while a pass was under way. What was written so far stays; nothing more is."""


class PlanChanged(ReconcilerError):
    """What would be done now is not what somebody agreed to. Nothing was written."""


class DriverError(ReconcilerError):
    """A system answered no, or did not answer."""


class Transient(DriverError):
    """Another try may succeed. ``retry_after`` is the server's own wish in seconds, if it stated one."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """Keep the server's delay beside the message."""
        self.retry_after = retry_after
        super().__init__(message)


class Permanent(DriverError):
    """No try will succeed until the desired state, the settings or the rights change."""


class Conflict(Permanent):
    """The live object is no longer the one the plan was made for. Nothing was written; the next pass plans anew."""
