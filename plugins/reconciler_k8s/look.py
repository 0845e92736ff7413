"""The reading half of the driver: one metadata listing per kind, a local compare, and a dry-run only for what looks changed."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import TypeVar

from reconciler.driver import Health, Observation, Ownership, Scope
from reconciler.errors import Permanent, Transient
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_k8s import inventory
from reconciler_k8s.answers import FieldConflict, Forbidden, Invalid, NotFound
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
from reconciler_k8s.health import health_of
from reconciler_k8s.names import built_in
from reconciler_k8s.ownership import (
    FINGERPRINTS,
    HASH,
    Claim,
    Seal,
    Wish,
    claims,
    differs_by_config_hash,
    evidence_of,
    field_manager,
    in_sync,
    make_wish,
    owner_label,
)
from reconciler_k8s.sight import Found, Prediction, content_of, found_in, handle_of, reset_for, with_kind, with_rotations
from reconciler_k8s.spec import KubernetesObject, config_hash

STATUS_KINDS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "Job", "PersistentVolumeClaim", "Pod", "CustomResourceDefinition"})
"""Built-in kinds whose health is in their status, so that they are listed whole."""
UNVALIDATED = "not validated by the server yet, because {0} comes in the same plan"

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

    def at(self, wanted: Sequence[Resource]) -> list[Observation]:
        """Say what is there. Raises Transient or Permanent when nothing could be seen."""
        self.served = self.cluster.discover()
        remembered = inventory.read(self.cluster, self.scope.owner)
        self._wish(wanted)
        done, usable = self._sort_out()
        kinds = {(one.group, one.kind): one for one in inventory.kinds_served(remembered, self.served)}
        kinds |= {(one.group, one.kind): one for one in map(self._serving, usable.values())}
        blind: dict[Served, str] = {}
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
        seal = Seal.of(self.scope)
        content = content_of(self.scope.wanted.values())
        for one in wanted:
            assert isinstance(one.spec, KubernetesObject)
            self.wishes[one.id] = make_wish(one, self.scope, seal, config_hash(one.spec, content, self.scope.fingerprint))

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
                aside.append(
                    Observation(
                        id, None, refused=f"{id}: the cluster serves no {wish.spec.kind} in {wish.spec.api_version}; install its CRD"
                    )
                )
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

    def _list(self, served: Served, usable: dict[ResourceId, Wish]) -> tuple[list[Observation], list[Found], dict[Served, str]]:
        done: list[Observation] = []
        suspects: list[Found] = []
        try:
            for page in self._pages(served):
                for item in page:
                    found = found_in(served, item, self.scope.owner, whole=self._needs_status(served))
                    wish = usable.get(found.id)
                    if wish is None:
                        done += self._prunable(found)
                    elif (
                        found.ownership is Ownership.OURS
                        and not found.metadata.get("deletionTimestamp")
                        and in_sync(wish, found.metadata, self.scope)
                    ):
                        done.append(self._in_sync(wish, found))
                    else:
                        suspects.append(found)
        except Forbidden as error:
            return [], [], {served: str(error)}
        except NotFound:
            return [], [], {}  # the CRD left between discovery and listing, and its objects with it
        return done, suspects, {}

    def _pages(self, served: Served) -> Iterator[list[JSONObject]]:
        selector = f"reconciler/owner={owner_label(self.scope.owner)}"
        namespaces = self.cluster.config.namespaces if served.namespaced and self.cluster.config.namespaces else ("",)
        for namespace in namespaces:
            yield from self.cluster.pages(served, namespace, selector, whole=self._needs_status(served))

    def _needs_status(self, served: Served) -> bool:
        if served.full_kind == "Service":
            services = (wish for wish in self.wishes.values() if wish.spec.full_kind == "Service")
            return any((wish.spec.manifest.get("spec") or {}).get("type") == "LoadBalancer" for wish in services)
        return served.full_kind in STATUS_KINDS or not built_in(served.group)

    def _prunable(self, found: Found) -> list[Observation]:
        if found.ownership is not Ownership.OURS or found.mark is None:
            return []
        if found.metadata.get("deletionTimestamp"):
            return [Observation(found.id, {}, unknown="is being deleted", health=health_of(with_kind(found)))]
        return [Observation(found.id, {"kind": found.served.full_kind}, handle=handle_of(found), keep=found.mark.keep, applied="unwanted")]

    def _in_sync(self, wish: Wish, found: Found) -> Observation:
        return Observation(
            wish.resource.id,
            {},
            predicted={},
            health=health_of(with_kind(found)) if found.whole is not None else Health(),
            handle=handle_of(found),
            keep=found.mark is not None and found.mark.keep,
            applied=wish.resource.digest,
            status=found.whole if wish.resource.id in self.scope.status_of else None,
        )

    # -- one object ----------------------------------------------------------------------------------------------------------

    def _judge(self, wish: Wish, found: Found | None, blind: dict[Served, str]) -> Observation | None:
        id, served = wish.resource.id, self._serving(wish)
        if served in blind:
            return Observation(id, None, unknown=blind[served])
        namespace = wish.spec.manifest["metadata"].get("namespace", "")
        if found is None and namespace in self.absent_namespaces:
            return Observation(id, None, notes=(UNVALIDATED.format("its namespace"),))
        try:
            return self._suspect(wish, found) if found is not None else self._unlisted(wish)
        except (Transient, Forbidden) as error:
            return Observation(id, None, unknown=str(error))
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
            namespace = wish.spec.manifest["metadata"]["namespace"]
            return Observation(id, None, refused=f'{id}: the namespace "{namespace}" does not exist; declare it in the stack')
        except (FieldConflict, Invalid):
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
        if found.ownership is not Ownership.OURS and not adopt:
            return base
        live = self._live(wish, found)
        prediction = Prediction(found.metadata)
        try:
            self._predict(wish, live, prediction)
        except Invalid as error:
            if not error.immutable:
                return replace(base, refused=str(error))
            shown = {} if wish.spec.confidential else projected(wish.spec.manifest, live)
            return replace(base, live=shown, predicted=wish.spec.canonical(self.scope.fingerprint), replace=str(error))
        if prediction.refused:
            return replace(base, refused=prediction.refused)
        before, after = self._difference(wish, live, prediction)
        return replace(
            base,
            live=before,
            predicted=after,
            follows=differs_by_config_hash(before, after),
            handle={
                **base.handle,
                **prediction.handle(adopt=found.ownership is not Ownership.OURS, manager=field_manager(self.scope.owner)),
            },
            notes=prediction.notes(adopt=found.ownership is not Ownership.OURS, manager=field_manager(self.scope.owner)),
        )

    def _base(self, wish: Wish, found: Found) -> Observation:
        seal = Seal.of(self.scope)
        last = (found.metadata.get("annotations") or {}).get(HASH, "")
        current = last.partition(".")[0] == seal(wish.resource.digest)
        return Observation(
            wish.resource.id,
            {},
            ownership=found.ownership,
            health=health_of(with_kind(found)) if found.whole is not None else Health(),
            handle=handle_of(found),
            predicted=None,
            evidence=evidence_of(found.metadata, field_manager(self.scope.owner)),
            keep=found.mark is not None and found.mark.keep,
            applied=wish.resource.digest if current else last,
            owner=found.mark.owner if found.mark is not None else "",
        )

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
            prediction.claims = claims(conflict.causes)
            prediction.refused = self._refusal(wish, live["metadata"], prediction.claims)
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
            prediction.answer = overlaid(answer, reset)

    def _refusal(self, wish: Wish, metadata: JSONObject, held: list[Claim]) -> str:
        """Say why fields may not be taken: a controller works on them, or they were never ours. What was ours is taken back."""
        if wish.resource.policy.adopt:
            return ""
        ours_before = (metadata.get("annotations") or {}).get(HASH) == wish.hash
        appliers = {entry.get("manager") for entry in metadata.get("managedFields") or () if entry.get("operation") == "Apply"}
        foreign = [
            claim
            for claim in held
            if (claim.subresource and not claim.manager.startswith("kubectl")) or (not ours_before and claim.manager in appliers)
        ]
        if not foreign:
            return ""
        said = "; ".join(str(claim) for claim in foreign)
        return f'{wish.resource.id}: {said}; leave the field out of git, list it in reconciler/ignore, or set reconciler/adopt: "true"'

    def _dry_run(self, wish: Wish, uid: str | None, *, force: bool) -> tuple[int, JSONObject]:
        served, spec = self._serving(wish), wish.spec
        confidential = spec.full_kind == "Secret"
        body = wish.body(self.scope, (lambda ref: "{}") if confidential else lambda ref: f"secret:{self.scope.fingerprint(ref)}")
        if uid is not None:
            body["metadata"]["uid"] = uid
        query = {"fieldManager": field_manager(self.scope.owner), "dryRun": "All", **({"force": "true"} if force else {})}
        path = served.path(spec.manifest["metadata"].get("namespace", ""), spec.manifest["metadata"]["name"])
        accept = METADATA if confidential else WHOLE
        return self.cluster.send(Call("PATCH", path, str(wish.resource.id), query, accept, APPLY, body, confidential=spec.confidential))

    def _get(self, served: Served, metadata: JSONObject, id: ResourceId, accept: str) -> JSONObject | None:
        path = served.path(metadata.get("namespace", ""), metadata["name"])
        try:
            return self.cluster.send(Call("GET", path, str(id), accept=accept, confidential=served.full_kind == "Secret"))[1]
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
