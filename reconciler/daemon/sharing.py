"""What daemons that share the work know of one another: only what stands in the store. Asks; decides nothing else and writes nothing.

A store that cannot be read knows nothing, which is what a daemon alone knows, too.
"""

from reconciler.daemon.queue import Claim
from reconciler.errors import StoreError
from reconciler.report import Verdict
from reconciler.state import Store

OWN = frozenset({"resync", "another try"})
"""Reasons that speak of no news: whoever takes such a claim knows as much as whoever asked."""
MOST = 17


def _latest(store: Store, stack: str, most: int = 1) -> list[tuple[str, str]]:
    """Give (verdict, revision) of the newest passes, rejections left out."""
    try:
        rows = store.runs(stack, most=most + 5)
    except StoreError:
        return []
    return [(row["verdict"], row["revision"]) for row in rows if row["verdict"] != Verdict.REJECTED][:most]


def tells_news(claim: Claim, commit: str) -> bool:
    """Say whether a claim was asked for because of something that whoever takes it, who knows ``commit``, may not know yet."""
    return bool(set(claim.reasons) - OWN - {because(commit)})


def because(commit: str) -> str:
    """Give the reason of a pass that a new commit asks for."""
    return f"commit {commit[:12]}"


def behind(store: Store, stack: str, commit: str) -> bool:
    """Say whether the newest pass was of another commit: then somebody knows what we do not, or we know what they do not."""
    return any(revision != commit for _, revision in _latest(store, stack))


def made_by_another(store: Store, stack: str, commit: str) -> bool:
    """Say whether another daemon has already made a pass of this commit, so that nobody has to ask for it."""
    return any(revision == commit for _, revision in _latest(store, stack))


def stumbles(store: Store, stack: str) -> int:
    """Count the newest passes in a row that did not end well, whoever made them."""
    count = 0
    for verdict, _ in _latest(store, stack, MOST):
        if verdict == Verdict.CONVERGED:
            break
        count += 1
    return count
