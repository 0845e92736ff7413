"""What is proposed and not merged: the heads of pull requests, and what the branch would be with one of them merged.

A mirror of its own, so that nothing of a stranger lies beside what is in force. Nothing is checked out, and a merge is made of objects
alone; a merge driver or a filter that the proposal names is not run, because none is configured.
"""

from dataclasses import replace

from reconciler.errors import SourceError, Untrusted
from reconciler.git import HEX, commit_id
from reconciler.signatures import SignaturePolicy, verify
from reconciler.source import GitSource

WHO = {
    "GIT_AUTHOR_NAME": "reconciler",
    "GIT_AUTHOR_EMAIL": "reconciler@localhost",
    "GIT_AUTHOR_DATE": "@86400 +0000",
    "GIT_COMMITTER_NAME": "reconciler",
    "GIT_COMMITTER_EMAIL": "reconciler@localhost",
    "GIT_COMMITTER_DATE": "@86400 +0000",
}
"""Fixed, so that the same two commits merge to the same one."""


class ProposalSource(GitSource):
    """The branch and what is proposed for it. To be given a directory that no other source uses."""

    def heads(self, pattern: str) -> dict[str, str]:
        """Ask the server for the refs that match, such as ``refs/pull/*/head``; gives ref to commit, and fetches nothing."""
        lines = self._git.run("ls-remote", "--", self.url, pattern).decode("utf-8", "replace").splitlines()
        pairs = [line.split("\t", 1) for line in lines if "\t" in line]
        return {ref: commit for commit, ref in pairs if HEX.fullmatch(commit)}

    def bring(self, ref: str) -> str:
        """Fetch the head of one proposal and give its commit. To be called after ``fetch``, which makes the mirror."""
        with self._lock, self._mirror.opened():
            self._git.run("fetch", "--no-tags", "--force", "--", self.url, f"+{ref}:{ref}", cwd=self.mirror)
            return self._git.run("for-each-ref", "--format=%(objectname)", "--", ref, cwd=self.mirror).decode().strip()

    def merged(self, base: str, head: str) -> str:
        """Give a commit with what the branch would hold when ``head`` is merged; empty when that conflicts."""
        if self.descends(head, base):
            return head
        with self._lock, self._mirror.opened():
            try:
                tree = (
                    self._git.run("merge-tree", "--write-tree", commit_id(base), commit_id(head), cwd=self.mirror).decode().split("\n")[0]
                )
            except SourceError as error:
                if str(error).rstrip().endswith("git merge-tree failed:"):  # a conflict is told by the exit code alone
                    return ""
                raise
            made = replace(self._git, environment={**self._git.environment, **WHO})
            parents = ("-p", base, "-p", head)
            return made.run("commit-tree", commit_id(tree), *parents, "-m", "what would be merged", cwd=self.mirror).decode().strip()

    def doubts(self, base: str, head: str, policy: SignaturePolicy) -> tuple[str, ...]:
        """Say of each commit of a proposal why it would not be trusted once it is merged on top of ``base``.

        Where only the head of the branch must be signed, it is said of ``head`` alone; whether that counts, or a merge of it that does not
        exist yet, is known to nobody before somebody merges.
        """
        with self._lock, self._mirror.opened():
            try:
                verify(self._git, self.mirror, commit_id(head), commit_id(base), policy)
            except Untrusted as error:
                return tuple(str(problem) for problem in error.problems)
        return ()
