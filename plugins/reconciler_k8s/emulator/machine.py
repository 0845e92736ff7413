"""The emulated API server without its HTTP: create, apply, update, delete, as state changes of a Store."""

import base64
import binascii
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.allocation import allocate
from reconciler_k8s.emulator.births import BORN, counted, free_ports, label_job, unsettled_at_first, zero
from reconciler_k8s.emulator.defaults import apply_defaults
from reconciler_k8s.emulator.kinds import Kind
from reconciler_k8s.emulator.managers import Actor, FieldConflicts, Managers, bare, timeless
from reconciler_k8s.emulator.merging import Path, SchemaError, check
from reconciler_k8s.emulator.removal import add_finalizers, check_preconditions, is_definition, mark_deleted
from reconciler_k8s.emulator.statuses import ApiError, conflicts, details_of, forbidden, invalid, modified, not_found, quoted, unprocessable
from reconciler_k8s.emulator.store import Store, new_uid, now
from reconciler_k8s.emulator.validation import claim_grows, problems

GENERATED = frozenset(
    {
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "ReplicaSet",
        "Job",
        "CronJob",
        "Ingress",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "CustomResourceDefinition",
        "Pod",
    }
)
NAMESPACES = ("", "namespaces")


@dataclass(frozen=True, slots=True)
class Request:
    """One writing request, decoded."""

    kind: Kind
    namespace: str
    name: str
    actor: Actor
    dry_run: bool = False
    sub: str = ""
    force: bool = False


@dataclass(slots=True)
class Machine:
    """The rules of the API server over one store. ``changed`` is called after each stored write."""

    store: Store = field(default_factory=Store)
    changed: Callable[[], None] = lambda: None
    unsettled: set[str] = field(default_factory=set)

    # -- writes --------------------------------------------------------------------------------------------------------------

    def apply(self, request: Request, config: JSONObject) -> tuple[int, JSONObject]:
        """Server-side apply. Gives (200 or 201, object)."""
        kind = request.kind
        live = self.store.get(kind.key, request.namespace, request.name)
        self._guard(request, live, config["metadata"])
        try:
            check(config, kind.shape)
        except SchemaError as error:
            raise ApiError(500, f"failed to create typed patch object ({self._path(request)}; {kind.gvk}): {error}") from None
        managers = Managers.of(live)
        base = live if live is not None else self._blank(request)
        if live is not None and not managers.entries:
            first = Actor("before-first-apply", "Update", kind.api_version, now=now())
            managers.update(zero(kind), bare(live), kind.shape, first, self._ignored(request))
            for entry in managers.entries.values():
                entry.time = now()
        config = {key: value for key, value in config.items() if key != "status" or not self._has_status(kind) or request.sub == "status"}
        try:
            merged = managers.apply(base, config, kind.shape, request.actor, self._ignored(request), force=request.force)
        except FieldConflicts as found:
            raise conflicts(found) from None
        for key in ("resourceVersion", "uid", "creationTimestamp"):
            merged["metadata"].pop(key, None)
            if key in base["metadata"]:
                merged["metadata"][key] = base["metadata"][key]
        return self._finish(request, live, merged, managers)

    def create(self, request: Request, body: JSONObject) -> tuple[int, JSONObject]:
        """POST."""
        kind = request.kind
        if self.store.peek(kind.key, request.namespace, request.name) is not None:
            raise ApiError(409, f'{kind.qualified} "{request.name}" already exists', "AlreadyExists", details_of(kind, request.name))
        return self._replace(request, None, body)

    def update(self, request: Request, body: JSONObject) -> tuple[int, JSONObject]:
        """PUT, or the result of a patch."""
        live = self.store.get(request.kind.key, request.namespace, request.name)
        if live is None:
            raise not_found(request.kind, request.name)
        self._guard(request, live, body["metadata"])
        return self._replace(request, live, body)

    def _replace(self, request: Request, live: JSONObject | None, body: JSONObject) -> tuple[int, JSONObject]:
        new = deepcopy(body)
        self._keep_server_fields(request, live, new)
        wiped = new["metadata"].get("managedFields") in ([], [{}])
        managers = Managers() if wiped else Managers.of(new if new["metadata"].get("managedFields") else live)
        self._defaults(request, new)
        if live is None or (managers.entries and not wiped):
            managers.update(live or zero(request.kind), new, request.kind.shape, request.actor, self._ignored(request))
        return self._finish(request, live, new, managers, defaulted=True)

    def delete(self, request: Request, options: JSONObject) -> tuple[int, JSONObject]:
        """DELETE. Gives a Status, or the object when finalizers keep it."""
        kind = request.kind
        live = self.store.get(kind.key, request.namespace, request.name)
        if live is None:
            raise not_found(kind, request.name)
        check_preconditions(kind, live, options)
        if add_finalizers(kind, live, options):
            return 200, self._mark_deleted(request, live)
        if not request.dry_run:
            self.remove(kind, live)
        if kind.name in ("Service", "Pod") and not kind.custom:
            live["metadata"]["resourceVersion"] = str(self.store.version)
            return 200, live
        details = {**details_of(kind, request.name), "uid": live["metadata"]["uid"]}
        return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _mark_deleted(self, request: Request, live: JSONObject) -> JSONObject:
        if live["metadata"].get("deletionTimestamp"):
            return live
        mark_deleted(request.kind, live)
        return live if request.dry_run else self._store(request.kind, live)

    def remove(self, kind: Kind, whole: JSONObject) -> None:
        """Take an object out of the store, and what lives only with it."""
        if is_definition(kind):
            key = whole["spec"]["group"], whole["spec"]["names"]["plural"]
            of_it = [one for one in self.store.kinds.values() if one.key == key]
            for child in list(self.store.all(key)):
                self.store.drop(of_it[0], child)
            self.store.undefine(whole)
        self.store.drop(kind, whole)
        self.changed()

    def finalize(self, request: Request, body: JSONObject) -> JSONObject:
        """PUT of a namespace's finalizers; without any a deleted namespace goes."""
        live = self.store.get(request.kind.key, "", request.name)
        if live is None:
            raise not_found(request.kind, request.name)
        shown = {**deepcopy(live), "metadata": {**deepcopy(live["metadata"])}}
        shown["metadata"].pop("managedFields", None)
        shown["metadata"]["labels"] = {"kubernetes.io/metadata.name": request.name, **(body["metadata"].get("labels") or {})}
        finalizers = (body.get("spec") or {}).get("finalizers") or []
        shown["spec"] = {"finalizers": finalizers} if finalizers else {}
        if not finalizers and live["metadata"].get("deletionTimestamp"):
            self.remove(request.kind, live)
            return shown
        return self._store(request.kind, shown)

    # -- steps ---------------------------------------------------------------------------------------------------------------

    def _path(self, request: Request) -> str:
        return f"{request.namespace}/{request.name}"

    def _blank(self, request: Request) -> JSONObject:
        metadata = {"name": request.name, **({"namespace": request.namespace} if request.namespace else {})}
        return {"kind": request.kind.name, "apiVersion": request.kind.api_version, "metadata": metadata}

    def _guard(self, request: Request, live: JSONObject | None, sent: JSONObject) -> None:
        """Check uid and resourceVersion that a body carries."""
        kind, uid, version = request.kind, sent.get("uid"), sent.get("resourceVersion")
        if live is None:
            if uid:
                why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                raise modified(kind, request.name, why)
            return
        if uid and uid != live["metadata"]["uid"]:
            if request.actor.operation == "Apply":
                cause = invalid("metadata.uid", quoted(uid), "field is immutable")
                raise unprocessable(kind.name, kind.group, request.name, [cause, cause])
            place = "/".join(("/registry", kind.plural, *filter(None, (request.namespace, request.name))))
            why = (
                f"StorageError: invalid object, Code: 4, Key: {place}, ResourceVersion: 0, AdditionalErrorMsg: "
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {live['metadata']['uid']}"
            )
            raise modified(kind, request.name, why)
        if version and version != live["metadata"]["resourceVersion"]:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise modified(kind, request.name, why)

    def _has_status(self, kind: Kind) -> bool:
        return "status" in kind.subresources

    def _ignored(self, request: Request) -> Callable[[Path], bool]:
        """Say which fields an endpoint does not write and therefore nobody owns through it."""
        if request.sub == "status":
            return lambda path: path[0] == "f:spec"
        if self._has_status(request.kind):
            return lambda path: path[0] == "f:status"
        return lambda path: False

    def _keep_server_fields(self, request: Request, live: JSONObject | None, new: JSONObject) -> None:
        new["kind"], new["apiVersion"] = request.kind.name, request.kind.api_version
        metadata = new.setdefault("metadata", {})
        for key in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"):
            metadata.pop(key, None)
            if live is not None and key in live["metadata"]:
                metadata[key] = live["metadata"][key]
        if request.sub == "status" and live is not None:
            status = new.get("status")
            labels_and_notes = {key: metadata[key] for key in ("labels", "annotations", "managedFields") if key in metadata}
            new.clear()
            new.update(deepcopy(live))
            new["metadata"] = {**new["metadata"], **labels_and_notes}
            new["status"] = status if status is not None else {}
        elif self._has_status(request.kind):
            new.pop("status", None)
            if live is not None and "status" in live:
                new["status"] = live["status"]

    def _defaults(self, request: Request, new: JSONObject) -> None:
        try:
            if request.kind.name == "Secret" and isinstance(new.get("stringData"), dict):
                strings = {key: base64.b64encode(str(value or "").encode()).decode() for key, value in new.pop("stringData").items()}
                new["data"] = {**(new.get("data") or {}), **strings}
            apply_defaults(request.kind, new)
            self._convert(request, new)
        except (ValueError, TypeError, AttributeError) as error:
            kind = request.kind
            start = f"failed to convert new object ({self._path(request)}; {kind.gvk}) to proper version: "
            raise ApiError(500, f"{start}unable to convert unstructured object to {kind.gvk}: {error}") from None

    def _convert(self, request: Request, new: JSONObject) -> None:
        """Play Go's decoding where it is stricter than the schema."""
        if request.kind.name == "Secret":
            for value in (new.get("data") or {}).values():
                try:
                    base64.b64decode(value, validate=True)
                except (binascii.Error, ValueError):
                    raise ValueError("error decoding from json: illegal base64 data at input byte 0") from None
        for key in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
            if not request.kind.custom and isinstance((new.get("spec") or {}).get(key), float):
                raise ValueError("cannot convert float64 to int32")

    def _finish(
        self, request: Request, live: JSONObject | None, new: JSONObject, managers: Managers, *, defaulted: bool = False
    ) -> tuple[int, JSONObject]:
        kind = request.kind
        if not defaulted:
            self._defaults(request, new)
        if kind.custom:
            new["apiVersion"] = f"{kind.group}/{kind.storage_version or kind.version}"
        self._admit(request, live, new)
        fields = managers.write()
        new["metadata"].pop("managedFields", None)
        if fields:
            new["metadata"]["managedFields"] = fields
        self._count_generation(kind, live, new)
        if live is None:
            return 201, self._born(request, new)
        if timeless(new) == timeless(live):
            return 200, self._once_more(request, live)
        if request.dry_run:
            return 200, new
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers") and kind.name != "Namespace":
            self.remove(kind, live)
            return 200, new
        return 200, self._store(kind, new)

    def _admit(self, request: Request, live: JSONObject | None, new: JSONObject) -> None:
        """Do what comes between the defaults and the store: strategy, validation, allocation, admission. Raises ApiError."""
        kind = request.kind
        self._namespace_open(request, live)
        if request.sub != "status":
            self._prepare(request, live, new)
        causes = problems(kind, new, live)
        if not causes and kind.key == ("", "services") and request.sub != "status":
            own = (request.namespace, request.name)
            others = [one for one in self.store.all(kind.key) if (one["metadata"].get("namespace"), one["metadata"]["name"]) != own]
            causes = allocate(new["spec"], (live or {}).get("spec"), others, dry_run=request.dry_run)
        if causes:
            raise unprocessable(kind.name, kind.group, request.name, causes)
        if live is not None and kind.key == ("", "persistentvolumeclaims") and claim_grows(live, new):
            self._resize(request, new)

    def _resize(self, request: Request, new: JSONObject) -> None:
        """Let a bound claim grow only where its class allows it."""
        found = self.store.peek(("storage.k8s.io", "storageclasses"), "", new["spec"].get("storageClassName", ""))
        if found is None or not found.get("allowVolumeExpansion"):
            why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
            raise forbidden(request.kind, request.name, why)

    def _once_more(self, request: Request, live: JSONObject) -> JSONObject:
        """Count one version for the second apply of what Go spells differently the first time: a claim, a job without template labels."""
        unsettled = live["metadata"]["uid"] in self.unsettled
        if request.dry_run or request.actor.operation != "Apply" or not unsettled:
            return live
        self.unsettled.discard(live["metadata"]["uid"])
        return self._store(request.kind, live)

    def _namespace_open(self, request: Request, live: JSONObject | None) -> None:
        if live is not None or not request.kind.namespaced:
            return
        namespace = self.store.peek(NAMESPACES, "", request.namespace)
        if namespace is None:
            raise ApiError(
                404, f'namespaces "{request.namespace}" not found', "NotFound", {"name": request.namespace, "kind": "namespaces"}
            )
        if namespace["metadata"].get("deletionTimestamp"):
            kind = request.kind
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {request.namespace} is being terminated",
                "field": "metadata.namespace",
            }
            why = f"unable to create new content in namespace {request.namespace} because it is being terminated"
            raise forbidden(kind, request.name, why, cause)

    def _prepare(self, request: Request, live: JSONObject | None, new: JSONObject) -> None:
        """Do what the kinds' strategies do before validation."""
        kind = request.kind
        if kind.custom:
            return
        match kind.name:
            case "Namespace":
                new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = request.name
                new.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"]) if live is None else new.update(spec=live["spec"])
            case "PersistentVolumeClaim" if live is None:
                new["metadata"]["finalizers"] = [*new["metadata"].get("finalizers", ()), "kubernetes.io/pvc-protection"]
            case "Job" if live is not None:
                new["spec"]["manualSelector"] = live["spec"].get("manualSelector", False)
                new["spec"].setdefault("selector", live["spec"].get("selector"))
            case "Job":
                new["metadata"].setdefault("uid", new_uid())
                label_job(new)
            case "Service":
                if live is not None and new["spec"].get("type") != "LoadBalancer":
                    new["status"] = {"loadBalancer": {}}
                free_ports(new["spec"], (live or {}).get("spec") or {})

    def _count_generation(self, kind: Kind, live: JSONObject | None, new: JSONObject) -> None:
        if kind.name not in GENERATED and not kind.custom:
            return
        if live is None:
            new["metadata"]["generation"] = 1
            return
        before, after = counted(kind, live), counted(kind, new)
        new["metadata"]["generation"] = live["metadata"].get("generation", 1) + (before != after)

    def _born(self, request: Request, new: JSONObject) -> JSONObject:
        kind, metadata = request.kind, new["metadata"]
        metadata.setdefault("uid", new_uid())
        metadata["creationTimestamp"] = now()
        metadata.pop("resourceVersion", None)
        if kind.name in BORN and not kind.custom:
            new["status"] = deepcopy(BORN[kind.name])
        elif self._has_status(kind) and not kind.custom:
            new["status"] = {}
        if is_definition(kind):
            new["status"]["storedVersions"] = [one["name"] for one in new["spec"]["versions"] if one.get("storage")]
        if kind.name == "Deployment" and not kind.custom:
            new["status"] = {}
        if not request.dry_run and request.actor.operation == "Apply" and unsettled_at_first(kind, new):
            self.unsettled.add(metadata["uid"])
        return new if request.dry_run else self._store(kind, new)

    def _store(self, kind: Kind, whole: JSONObject) -> JSONObject:
        stored = self.store.put(kind, whole)
        self.changed()
        return stored

    def alter(self, kind: Kind, whole: JSONObject, actor: str, *, sub: str = "status") -> None:
        """Write as a controller does: the object as given, its changed fields recorded for ``actor``."""
        live = self.store.get(kind.key, whole["metadata"].get("namespace", ""), whole["metadata"]["name"])
        if live is None or live == whole:
            return
        managers = Managers.of(live)
        request = Request(kind, "", "", Actor(actor, "Update", kind.api_version, sub, "" if sub == "scale" else now()), sub=sub)
        managers.update(live, whole, kind.shape, request.actor, self._ignored(request))
        whole["metadata"]["managedFields"] = managers.write()
        self._store(kind, whole)
