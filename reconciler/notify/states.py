"""The states of a commit, in words that every forge has one for."""

from typing import Literal, TypeAlias

State: TypeAlias = Literal["pending", "success", "failure", "error"]
"""``error``: nothing came of it, and it is nobody's fault; GitLab calls that canceled."""
