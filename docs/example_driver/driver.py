"""Observe and apply for notes."""

from collections.abc import Sequence

from docs.example_driver.client import Client
from docs.example_driver.spec import BoardConfig, Note
from reconciler.driver import Action, Change, Mark, Observation, Outcome, Ownership, Scope
from reconciler.errors import Conflict
from reconciler.resource import JSONObject, Resource, ResourceId, SecretRef
from reconciler.writing import apply_each


class BoardDriver:
    """One board. A note's label holds our mark and, behind a blank, the fingerprint of the secret that was written."""

    def __init__(self, config: BoardConfig) -> None:
        self._client = Client(config)

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """Report what is wanted and there, and everything that is ours."""
        titles = {one.id.name for one in wanted}
        seen = [_observed(note, scope) for note in self._client.notes(scope)]
        return [one for one in seen if one.id.name in titles or one.ownership is Ownership.OURS]

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        """Make the changes, one call each."""
        return apply_each(changes, lambda change: self._make(change, scope))

    def _make(self, change: Change, scope: Scope) -> None:
        """Look once more: an earlier try may have got through though its answer was lost, and somebody else may have been faster."""
        live = next((one for one in self._client.notes(scope) if one["title"] == change.id.name), None)
        if live is not None and _observed(live, scope).ownership is not Ownership.OURS and change.action is not Action.ADOPT:
            raise Conflict(f"{change.id}: is not ours, or no longer; the next pass plans anew")
        if change.desired is not None:
            self._client.write(live["id"] if live else None, _native(change.desired, scope), str(change.id), scope)
        elif live is not None:
            self._client.delete(live["id"], str(change.id), scope)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


def _observed(note: JSONObject, scope: Scope) -> Observation:
    label, _, sealed = str(note["label"]).partition(" ")
    mark, id = Mark.parse(label), ResourceId("board", "Note", note["title"])
    wish = scope.wanted.get(id)
    return Observation(
        id=id,
        live={"text": f"secret:{sealed}" if sealed else note["text"], "colours": sorted(note["colours"])},
        ownership=mark.ownership(scope.owner) if mark else Ownership.UNMARKED,
        handle={"id": note["id"]},
        keep=bool(mark and mark.keep),
        protect=bool(mark and mark.protect),
        owner=mark.owner if mark else "",
        stale_mark=mark.called if mark and wish and mark.owner == scope.owner and mark != Mark.of(wish, scope) else "",
    )


def _native(resource: Resource, scope: Scope) -> JSONObject:
    """Give the note to send. The only place where a secret is read, in the expression that needs it."""
    assert isinstance(resource.spec, Note)
    text, mark = resource.spec.text, str(Mark.of(resource, scope))
    return {
        "title": resource.id.name,
        "text": scope.reveal(text).reveal() if isinstance(text, SecretRef) else text,
        "colours": list(resource.spec.colours),
        "label": f"{mark} {scope.fingerprint(text)}" if isinstance(text, SecretRef) else mark,
    }
