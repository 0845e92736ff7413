"""Reconciler: a commit in git becomes one reviewed plan over several systems, and is kept true until the next commit."""

__version__ = "0.1.0"
