"""The reading half of the driver: one metadata listing per kind, a local compare, and a dry-run only for what looks changed."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

from reconciler.driver import Health, Observation, Ownership, Scope
from reconciler.errors import Permanent, Transient
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_k8s import applyset
from reconciler_k8s.answers import FieldConflict, Forbidden, Invalid, NoDryRun, NotFound
from reconciler_k8s.client import APPLY, METADATA, WHOLE, Call, Cluster, Served
from reconciler_k8s.compare import (
    cleaned,
    difference,
    masked,
    overlaid,
    projected,
    secret_difference,
    stored_prints,
    texts,
)
from reconciler_k8s.expected import left_alone, said
from reconciler_k8s.health import health_of
from reconciler_k8s.names import built_in
from reconciler_k8s.ownership import (
    FINGERPRINTS,
    HASH,
    PART_OF,
    Wish,
    claims,
    differs_by_config_hash,
    evidence_of,
    field_manager,
    in_sync,
    make_wish,
)
from reconciler_k8s.seals import Seal
from reconciler_k8s.sight import (
    Found,
    Prediction,
    completed,
    content_of,
    found_in,
    handle_of,
    reset_for,
    unserved,
    with_kind,
    with_rotations,
    with_unfinished,
)
from reconciler_k8s.spec import KubernetesObject, config_hash
from reconciler_k8s.taking import refusal

STATUS_KINDS = frozenset(
    {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "PersistentVolumeClaim", "Pod", "CustomResourceDefinition"}
)
"""Built-in kinds whose health is in their status, so that they are listed whole."""
CLAIMED = (
    '{id}: belongs to the stack {theirs}, and {ours} claims it, too; take it out of one of them, or move it with reconciler/adopt: "true"'
)
UNPREDICTED = "not validated by the server: {0}"
UNVALIDATED = "not validated by the server yet, because {0} comes in the same plan"

Blind: TypeAlias = dict[tuple[Served, str], str]
"""What could not be listed, and why; an empty namespace means the whole cluster."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class Look:
    """One observation of one stack."""

    cluster: Cluster
    scope: Scope
    served: dict[tuple[str, str], Served] = field(default_factory=dict)
    wishes: dict[ResourceId, Wish] = field(default_factory=dict)
    absent_namespaces: set[str] = field(default_factory=set)
    namespaces: list[str] = field(default_factory=list)

    @property
    def applied(self) -> applyset.ApplySet:
        """The stack as an ApplySet."""
        return applyset.ApplySet(self.scope.owner, self.cluster.config.inventory_namespace)

    def at(self, wanted: Sequence[Resource]) -> list[Observation]:
        """Say what is there. Raises Transient or Permanent when nothing could be seen."""
        self.served = self.cluster.discover()
        remembered = applyset.read(self.cluster, self.applied)
        self._wish(wanted)
        done, usable = self._sort_out()
        self.namespaces = sorted({*remembered.namespaces, *(wish.namespace for wish in usable.values())} - {""})
        kinds = {(one.group, one.kind): one for one in applyset.kinds_served(remembered.kinds, self.served)}
        kinds |= {(one.group, one.kind): one for one in map(self._serving, usable.values())}
        blind: Blind = {}
        seen: dict[ResourceId, Found] = {}
        for observations, suspects, problem in self._each(list(kinds.values()), lambda one: self._list(one, usable)):
            done += observations
            seen |= {one.id: one for one in suspects}
            blind |= problem
        reported = {one.id for one in done}
        rest = [wish for id, wish in usable.items() if id not in reported]
        rest.sort(key=lambda wish: wish.spec.full_kind != "Namespace")
        namespaces = [wish for wish in rest if wish.spec.full_kind == "Namespace"]
        for batch in (namespaces, rest[len(namespaces) :]):
            done += [one for one in self._each(batch, lambda wish: self._judge(wish, seen.get(wish.resource.id), blind)) if one is not None]
        return self._with_status(done)

    def _wish(self, wanted: Sequence[Resource]) -> None:
        seal = Seal.of(self.scope.fingerprint)
        content, part_of = content_of(self.scope.wanted.values()), self.applied.id
        for one in wanted:
            assert isinstance(one.spec, KubernetesObject)
            hashed = config_hash(one.spec, content, self.scope.fingerprint)
            self.wishes[one.id] = make_wish(one, self.scope, seal, part_of, hashed)

    def _serving(self, wish: Wish) -> Served:
        return self.served[wish.spec.api_version, wish.spec.kind]

    def _sort_out(self) -> tuple[list[Observation], dict[ResourceId, Wish]]:
        """Set aside what this cluster has no kind for, or has in another scope."""
        coming = {
            (str(spec.get("group")), str((spec.get("names") or {}).get("kind")))
            for wish in self.wishes.values()
            if wish.spec.full_kind == "CustomResourceDefinition" and (spec := wish.spec.manifest.get("spec") or {})
        }
        aside: list[Observation] = []
        usable: dict[ResourceId, Wish] = {}
        for id, wish in self.wishes.items():
            served = self.served.get((wish.spec.api_version, wish.spec.kind))
            group = wish.spec.api_version.rpartition("/")[0]
            if served is None and (group, wish.spec.kind) in coming:
                aside.append(Observation(id, None, notes=(UNVALIDATED.format("its CRD"),)))
            elif served is None:
                aside.append(Observation(id, None, refused=unserved(id, wish.spec, self.served)))
            elif served.namespaced is not bool(wish.spec.manifest["metadata"].get("namespace")):
                fix = "name its namespace" if served.namespaced else "take the namespace out"
                aside.append(
                    Observation(id, None, refused=f"{id}: a {wish.spec.kind} is {'' if served.namespaced else 'not '}namespaced; {fix}")
                )
            else:
                usable[id] = wish
        return aside, usable

    def _each(self, items: Sequence[T], work: Callable[[T], R]) -> list[R]:
        """Do ``work`` for each item, several at a time, in the caller's trace."""
        if len(items) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(min(self.cluster.config.workers, len(items))) as pool:
            return [future.result() for future in [pool.submit(copy_context().run, work, item) for item in items]]

    # -- listing -------------------------------------------------------------------------------------------------------------

    def _list(self, served: Served, usable: dict[ResourceId, Wish]) -> tuple[list[Observation], list[Found], Blind]:
        done: list[Observation] = []
        suspects: list[Found] = []
        blind: Blind = {}
        whole = self._needs_status(served)
        for item in self._items(served, blind, whole=whole):
            found = found_in(served, item, self.scope.owner, whole=whole)
            wish = usable.get(found.id)
            if wish is None:
                done += self._prunable(found)
            elif (settled := self._settled(wish, found)) is not None:
                done.append(settled)
            else:
                suspects.append(found)
        return done, suspects, blind

    def _items(self, served: Served, blind: Blind, *, whole: bool) -> Iterator[JSONObject]:
        """List a kind: the whole cluster at once, or namespace by namespace where the rights are narrow."""
        for space in self.cluster.places(served, self.namespaces):
            try:
                for page in self.cluster.pages(served, space, f"{PART_OF}={self.applied.id}", whole=whole):
                    yield from page
            except Forbidden as error:
                if space or not served.namespaced:
                    blind[served, space] = str(error)
                    continue
                self.cluster.narrow.add(served)
                yield from self._items(served, blind, whole=whole)
            except NotFound:
                return  # the CRD left between discovery and listing, and its objects with it

    def _needs_status(self, served: Served) -> bool:
        if any(wish.spec.health and self._serving(wish) == served for wish in self.wishes.values() if wish.spec.health):
            return True
        if served.full_kind == "Service":
            services = (wish for wish in self.wishes.values() if wish.spec.full_kind == "Service")
            return any((wish.spec.manifest.get("spec") or {}).get("type") == "LoadBalancer" for wish in services)
        return served.full_kind in STATUS_KINDS or not built_in(served.group)

    def _prunable(self, found: Found) -> list[Observation]:
        if found.ownership is not Ownership.OURS or found.mark is None:
            return []
        if found.metadata.get("deletionTimestamp"):
            return [Observation(found.id, {}, unknown="is being deleted", health=health_of(with_kind(found)))]
        live: JSONObject = {"kind": found.served.full_kind}
        keep, protect = found.mark.keep, found.mark.protect
        return [Observation(found.id, live, handle=handle_of(found), keep=keep, protect=protect, applied="unwanted")]

    def _settled(self, wish: Wish, found: Found) -> Observation | None:
        """Give the observation of an object that is as we left it, or None when a closer look is needed."""
        if found.ownership is not Ownership.OURS or found.metadata.get("deletionTimestamp"):
            return None
        left = left_alone(wish, self.scope.owner, found.metadata, found.whole)
        if not in_sync(wish.without(left), found.metadata, self.scope):
            return None
        return Observation(
            wish.resource.id,
            {},
            predicted={},
            health=self._health(wish, found),
            notes=said(left),
            handle=handle_of(found),
            keep=found.mark is not None and found.mark.keep,
            applied=wish.resource.digest,
            status=found.whole if wish.resource.id in self.scope.status_of else None,
        )

    # -- one object ----------------------------------------------------------------------------------------------------------

    def _judge(self, wish: Wish, found: Found | None, blind: Blind) -> Observation | None:
        id, served = wish.resource.id, self._serving(wish)
        namespace = wish.namespace
        if (reason := blind.get((served, namespace)) or blind.get((served, ""))) is not None:
            return Observation(id, None, unknown=reason)
        if found is None and namespace in self.absent_namespaces:
            return Observation(id, None, notes=(UNVALIDATED.format("its namespace"),))
        try:
            return self._suspect(wish, found) if found is not None else self._unlisted(wish)
        except (Transient, Forbidden) as error:
            return Observation(id, None, unknown=str(error))
        except NoDryRun as error:
            return Observation(id, None, notes=(UNPREDICTED.format(error),))
        except Permanent as error:
            return Observation(id, None if found is None else {}, refused=str(error))

    def _unlisted(self, wish: Wish) -> Observation | None:
        """Tell a create from an object that stands there without our label, with the one dry-run that a create needs anyway."""
        id, served = wish.resource.id, self._serving(wish)
        try:
            code, _ = self._dry_run(wish, None, force=False)
        except NotFound as error:
            if error.missing != "namespaces":
                raise
            return Observation(id, None, refused=f'{id}: the namespace "{wish.namespace}" does not exist; declare it in the stack')
        except (FieldConflict, Invalid, NoDryRun):
            code = 200
        if code != 201:
            metadata = self._get(served, wish.spec.manifest["metadata"], id, METADATA)
            if metadata is not None:
                return self._suspect(wish, found_in(served, metadata, self.scope.owner, whole=False))
            self._dry_run(wish, None, force=False)  # it does not exist, so what was refused is the manifest: say why
        if wish.spec.full_kind == "Namespace":
            self.absent_namespaces.add(wish.spec.manifest["metadata"]["name"])
        return None

    def _suspect(self, wish: Wish, found: Found) -> Observation:
        id, adopt = wish.resource.id, wish.resource.policy.adopt
        base = self._base(wish, found)
        if found.metadata.get("deletionTimestamp"):
            return replace(base, unknown=f"{id}: {health_of(with_kind(found)).message}", health=health_of(with_kind(found)))
        if found.ownership is Ownership.FOREIGN and not adopt:
            return replace(base, refused=CLAIMED.format(id=id, theirs=base.owner, ours=self.scope.owner))
        if found.ownership is not Ownership.OURS and not adopt:
            return base
        live, manager = self._live(wish, found), field_manager(self.scope.owner)
        left = left_alone(wish, self.scope.owner, live["metadata"], live)
        wish = wish.without(left)
        prediction = Prediction(found.metadata, left=left)
        try:
            self._predict(wish, live, prediction)
        except Invalid as error:
            if not error.immutable:
                return replace(base, refused=str(error))
            shown = {} if wish.spec.confidential else projected(wish.spec.manifest, live)
            return replace(base, live=shown, predicted=wish.spec.canonical(self.scope.fingerprint), replace=str(error))
        except NoDryRun as error:
            shown = {} if wish.spec.confidential else projected(wish.spec.manifest, live)
            return replace(base, live=shown, predicted=wish.spec.canonical(self.scope.fingerprint), notes=(UNPREDICTED.format(error),))
        if prediction.refused:
            return replace(base, refused=prediction.refused)
        before, after = with_unfinished(self._difference(wish, live, prediction), found.metadata, manager)
        version = {"version": live["metadata"]["resourceVersion"]} if self.cluster.config.strict else {}
        return replace(
            base,
            live=before,
            predicted=after,
            follows=differs_by_config_hash(before, after),
            handle={**base.handle, **version, **prediction.handle(adopt=found.ownership is not Ownership.OURS, manager=manager)},
            notes=prediction.notes(adopt=found.ownership is not Ownership.OURS, manager=manager),
        )

    def _base(self, wish: Wish, found: Found) -> Observation:
        last = (found.metadata.get("annotations") or {}).get(HASH, "")
        current = last.partition(".")[0] == wish.hash.partition(".")[0]
        return Observation(
            wish.resource.id,
            {},
            ownership=found.ownership,
            health=self._health(wish, found),
            handle=handle_of(found),
            predicted=None,
            evidence=evidence_of(found.metadata, field_manager(self.scope.owner)),
            keep=found.mark is not None and found.mark.keep,
            applied=wish.resource.digest if current else last,
            owner=found.mark.owner if found.mark is not None else "",
        )

    def _health(self, wish: Wish, found: Found) -> Health:
        return health_of(with_kind(found), wish.spec.health) if found.whole is not None else Health()

    def _live(self, wish: Wish, found: Found) -> JSONObject:
        """Give the whole live object; of a Secret only its metadata, which holds no value."""
        if found.whole is not None and wish.spec.full_kind != "Secret":
            return found.whole
        if wish.spec.full_kind == "Secret":
            return {"metadata": found.metadata}
        whole = self._get(found.served, found.metadata, wish.resource.id, WHOLE)
        if whole is None:
            raise Transient(f"{wish.resource.id}: was deleted while it was being looked at")
        return whole

    def _predict(self, wish: Wish, live: JSONObject, prediction: "Prediction") -> None:
        """Ask the server what an apply would make; decide whether fields may be taken from others."""
        uid = str(live["metadata"]["uid"])
        try:
            self._try(wish, uid, prediction, force=False)
        except FieldConflict as conflict:
            ours = field_manager(self.scope.owner)  # what a reset of ours left, if it came to an end halfway
            prediction.claims = [one for one in claims(conflict.causes) if one.manager != ours]
            prediction.refused = refusal(wish, live["metadata"], prediction.claims)
            if not prediction.refused:
                self._try(wish, uid, prediction, force=True)
                prediction.force = True

    def _try(self, wish: Wish, uid: str, prediction: "Prediction", *, force: bool) -> None:
        try:
            _, prediction.answer = self._dry_run(wish, uid, force=force)
        except Invalid as error:
            reset = reset_for(wish.spec.manifest, str(error))
            if reset is None:
                raise
            prediction.reset = reset
            trimmed = replace(
                wish, spec=wish.spec.without(("/spec/strategy",) if wish.spec.full_kind == "Deployment" else ("/spec/ports",))
            )
            _, answer = self._dry_run(trimmed, uid, force=force)
            prediction.answer = overlaid(answer, completed(reset))

    def _dry_run(self, wish: Wish, uid: str | None, *, force: bool) -> tuple[int, JSONObject]:
        served, spec = self._serving(wish), wish.spec
        confidential = spec.full_kind == "Secret"
        body = wish.body((lambda ref: "{}") if confidential else lambda ref: f"secret:{self.scope.fingerprint(ref)}")
        if uid is not None:
            body["metadata"]["uid"] = uid
        query = {"fieldManager": field_manager(self.scope.owner), "dryRun": "All", **({"force": "true"} if force else {})}
        path = served.path(wish.namespace, spec.manifest["metadata"]["name"])
        accept = METADATA if confidential else WHOLE
        return self.cluster.send(Call("PATCH", path, str(wish.resource.id), query, accept, APPLY, body, confidential=spec.confidential))

    def _get(self, served: Served, metadata: JSONObject, id: ResourceId, accept: str) -> JSONObject | None:
        path = served.path(metadata.get("namespace", ""), metadata["name"])
        guarded = served.full_kind == "Secret" or id not in self.wishes or self.wishes[id].spec.confidential
        try:
            return self.cluster.send(Call("GET", path, str(id), accept=accept, confidential=guarded))[1]
        except NotFound:
            return None

    def _difference(self, wish: Wish, live: JSONObject, prediction: "Prediction") -> tuple[JSONObject, JSONObject]:
        annotations = live["metadata"].get("annotations") or {}
        prints = json.loads(annotations.get(FINGERPRINTS, "{}"))
        if wish.spec.full_kind == "Secret":
            return secret_difference(wish, live["metadata"], prediction.answer["metadata"], prints, prediction.claims)
        wanted = wish.spec.manifest
        before, after = difference(cleaned(live, wanted), cleaned(prediction.answer, wanted))
        if wish.prints or prints:
            stored = stored_prints(wish, prints, prediction.claims)
            before, after = difference(masked(before, after, stored, set(texts(wanted)) | set(annotations.values())), after)
            before, after = with_rotations(before, after, wish, stored)
        return before, after

    def _with_status(self, done: list[Observation]) -> list[Observation]:
        """Read whole what an expression asks about and was not read whole yet."""

        def read(one: Observation) -> Observation:
            wish = self.wishes.get(one.id)
            if one.id not in self.scope.status_of or one.status is not None or wish is None or one.live is None or wish.spec.confidential:
                return one
            return replace(one, status=self._get(self._serving(wish), wish.spec.manifest["metadata"], one.id, WHOLE))

        return self._each(done, read) if self.scope.status_of else done
