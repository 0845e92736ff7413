"""A Kubernetes object as git keeps it: the whole manifest, normalised so that two spellings of one wish are equal.

Pure: no network and no vendor library. The server alone knows defaults, so this room checks only what can be said without one.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, ClassVar, Self

from pydantic import PrivateAttr, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from reconciler.cel import compiled
from reconciler.resource import Fingerprint, JSONObject, ResourceId, SecretRef, Spec, digest, put, seal
from reconciler_k8s.names import built_in, full_kind, key_problem, name_problem, split_version
from reconciler_k8s.references import ids_required
from reconciler_k8s.seals import Seal

PREFIX = "reconciler/"
RESTART = "reconciler/restart-on-change"
FORCE = "reconciler/force"
HEALTH = "reconciler/health"
CONFIG_HASH = "reconciler/config-hash"
LARGEST_DATA = 1024 * 1024
"""Bytes that the values of a ConfigMap or Secret may have in all; the server's own limit."""
LARGEST_OBJECT = 1536 * 1024
"""Bytes of a whole object; the default limit of etcd."""

CLUSTER_SCOPED = frozenset(
    {
        "Namespace",
        "Node",
        "PersistentVolume",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "StorageClass",
        "IngressClass",
        "PriorityClass",
        "APIService",
        "RuntimeClass",
        "CSIDriver",
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
)
NAMESPACED = frozenset(
    {
        "ConfigMap",
        "Secret",
        "Service",
        "ServiceAccount",
        "PersistentVolumeClaim",
        "Pod",
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "ReplicaSet",
        "Job",
        "CronJob",
        "Ingress",
        "NetworkPolicy",
        "Role",
        "RoleBinding",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "Endpoints",
        "EndpointSlice",
        "LimitRange",
        "ResourceQuota",
        "Lease",
    }
)
WITH_IDENTITY = frozenset({"PersistentVolumeClaim", "PersistentVolume", "Namespace", "CustomResourceDefinition"})
SERVER_FIELDS = ("managedFields", "creationTimestamp", "uid", "resourceVersion", "generation", "selfLink", "deletionTimestamp")

Loc = tuple[str | int, ...]


class KubernetesObject(Spec):
    """Any object of any kind. ``manifest`` is what is sent, without our steering annotations and without what only the server writes.

    A secret reference may stand wherever a text may. References under ``stringData`` of a Secret stay there until the write, which
    folds them into ``data``; plain texts are folded at once, because server-side apply never forgets a key of ``stringData``.
    """

    manifest: JSONObject
    restart_on_change: bool = False
    force: bool = False
    health: str = ""
    _refs: "tuple[tuple[tuple[str, ...], SecretRef], ...]" = PrivateAttr(())

    def model_post_init(self, context: Any) -> None:
        """Find the references once; almost no object has any, and every pass asks."""
        self._refs = tuple(_walk_refs(self.manifest))

    @classmethod
    def kind_of(cls, document: JSONObject) -> str:
        """Give ``Kind`` for what Kubernetes itself brings and ``Kind.group`` for the rest: two groups may have one kind and name."""
        return full_kind(str(document["apiVersion"]), str(document["kind"]))

    @classmethod
    def from_document(cls, document: JSONObject) -> tuple[str, Self]:
        """Take a whole manifest. Raises pydantic.ValidationError whose paths start at the document's top."""
        problems: list[tuple[Loc, str]] = []
        manifest = normalise(document, problems)
        if problems:
            details = [
                InitErrorDetails(type=PydanticCustomError("manifest", text.replace("{", "{{")), loc=loc, input=None)
                for loc, text in problems
            ]
            raise ValidationError.from_exception_data("KubernetesObject", details)
        kind = IdentityBearingObject if cls.kind_of(manifest) in WITH_IDENTITY else cls
        notes = document["metadata"].get("annotations") or {}
        health = " ".join(str(notes.get(HEALTH) or "").split())
        restart, force = notes.get(RESTART) == "true", notes.get(FORCE) == "true"
        spec = kind.model_construct(manifest=manifest, restart_on_change=restart, force=force, health=health)
        return name_of(manifest), spec  # type: ignore[return-value]

    @property
    def kind(self) -> str:
        """The object's kind, e.g. ``Deployment``."""
        return str(self.manifest["kind"])

    @property
    def full_kind(self) -> str:
        """The kind as ids have it, e.g. ``Deployment`` or ``Service.serving.knative.dev``."""
        return self.kind_of(self.manifest)

    @property
    def api_version(self) -> str:
        """The object's group and version, e.g. ``apps/v1``."""
        return str(self.manifest["apiVersion"])

    @property
    def references(self) -> tuple[tuple[tuple[str, ...], SecretRef], ...]:
        """Every secret reference with its path in the object as the server keeps it."""
        return self._refs

    @property
    def confidential(self) -> bool:
        """True when neither the live object nor a server's error text may be repeated."""
        return self.full_kind == "Secret" or bool(self._refs)

    def canonical(self, fingerprint: Fingerprint) -> JSONObject:
        """Give the manifest with fingerprints in the place of secrets, be they references or values that stand plain in a Secret."""
        if self.full_kind == "Secret":
            return self._sealed(fingerprint)
        return seal(self.manifest, fingerprint) if self._refs else self.manifest

    def _sealed(self, fingerprint: Fingerprint) -> JSONObject:
        of_git = Seal.of(fingerprint).of_git
        data = {key: of_git(value) for key, value in self.manifest.get("data", {}).items() if isinstance(value, str)}
        whole = fold(seal(self.manifest, fingerprint), lambda text: text)
        return {**whole, "data": {**whole["data"], **data}} if data else whole

    def secrets(self) -> tuple[SecretRef, ...]:
        """List every reference, in document order."""
        return tuple(ref for _, ref in self._refs)

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Name what must stand first: the namespace, what a pod mounts, the services of an ingress, the CRD of a custom resource."""
        return ids_required(self.manifest)

    def with_live(self, paths: tuple[str, ...], live: JSONObject) -> Self:
        """Give a copy that says nothing about ``paths``: what an apply leaves out, it leaves alone."""
        return self.without(paths)

    def without(self, paths: tuple[str, ...]) -> Self:
        """Give a copy without what stands at ``paths`` (JSON pointers)."""
        if not paths:
            return self
        manifest = deepcopy(self.manifest)
        for path in paths:
            put(manifest, path, None)
        copy = self.model_copy(update={"manifest": manifest})
        copy._refs = tuple(_walk_refs(manifest))
        return copy

    def wire(self, text_of: Callable[[SecretRef], str]) -> JSONObject:
        """Build the body to send; ``text_of`` gives the text of each reference. The result shares nothing with the manifest."""
        return fold(_resolve(self.manifest, text_of), encode)


class IdentityBearingObject(KubernetesObject):
    """An object on which data or other objects hang: deleting it to make it anew loses them."""

    identity_bearing: ClassVar[bool] = True


def name_of(manifest: JSONObject) -> str:
    """Give the resource name: ``namespace/name``, or ``name`` when there is no namespace."""
    metadata = manifest["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else str(metadata["name"])


def encode(text: str) -> str:
    """Give the base64 that ``data`` of a Secret holds."""
    return base64.b64encode(text.encode()).decode()


def fold(manifest: JSONObject, encoded: Callable[[str], str]) -> JSONObject:
    """Move what is left of ``stringData`` into ``data``."""
    if "stringData" not in manifest or KubernetesObject.kind_of(manifest) != "Secret":
        return manifest
    rest = {key: value for key, value in manifest.items() if key != "stringData"}
    rest["data"] = {**rest.get("data", {}), **{key: encoded(text) for key, text in manifest["stringData"].items()}}
    return rest


def normalise(document: JSONObject, problems: list[tuple[Loc, str]]) -> JSONObject:
    """Give the manifest to send and add to ``problems`` what is wrong with it."""
    if not _check_head(document, problems):
        return {}
    kept = {key: value for key, value in document.items() if key != "status"}
    kept["metadata"] = _metadata(kept["metadata"])
    kind = KubernetesObject.kind_of(kept)
    if kind in ("ConfigMap", "Secret"):
        _check_data(kept, problems)
    manifest = _clean(kept, (), problems)
    assert isinstance(manifest, dict)
    if kind == "Secret" and not problems:
        _fold_plain(manifest)
    if len(json.dumps(manifest, default=lambda ref: "")) > LARGEST_OBJECT:
        problems.append(((), f"the object is larger than {LARGEST_OBJECT // 1024} KiB, which no cluster stores; split it"))
    return manifest


def _check_head(document: JSONObject, problems: list[tuple[Loc, str]]) -> bool:
    missing = [key for key in ("apiVersion", "kind") if not isinstance(document.get(key), str) or not document[key]]
    problems += [((key,), "is missing; every Kubernetes object needs it") for key in missing]
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        problems.append((("metadata",), "is missing; write at least metadata.name"))
        return False
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not name or "/" in name or "%" in name or name in (".", ".."):
        problems.append((("metadata", "name"), "must be a text without / or %; generateName cannot be reconciled"))
    if namespace is not None and (not isinstance(namespace, str) or not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace)):
        problems.append((("metadata", "namespace"), "must be a DNS label: lower-case letters, digits and -, at most 63"))
    _check_kind(document, problems)
    _check_steering(document, problems)
    return not problems


def _check_steering(document: JSONObject, problems: list[tuple[Loc, str]]) -> None:
    annotations = document["metadata"].get("annotations")
    if not isinstance(annotations, dict):
        return
    problems += [
        (("metadata", "annotations", name), f'must be "true" or "false", not {annotations[name]!r}')
        for name in (RESTART, FORCE)
        if name in annotations and annotations[name] not in ("true", "false")
    ]
    if HEALTH not in annotations:
        return
    place = ("metadata", "annotations", HEALTH)
    try:
        compiled(" ".join(str(annotations[HEALTH]).split()))
    except ValueError as error:
        problems.append((place, f"is not a CEL expression: {str(error).splitlines()[0]}"))
    if KubernetesObject.kind_of({"apiVersion": "", "kind": "", **document}) == "Secret":
        problems.append((place, "cannot stand on a Secret, which is never read"))


def _check_kind(document: JSONObject, problems: list[tuple[Loc, str]]) -> None:
    kind, metadata = document.get("kind"), document["metadata"]
    known = built_in(split_version(str(document.get("apiVersion")))[0])
    if kind == "List" or (isinstance(kind, str) and kind.endswith("List") and "items" in document):
        problems.append((("kind",), "a list is not an object; write its items as documents of their own"))
    if known and kind in CLUSTER_SCOPED and metadata.get("namespace"):
        problems.append((("metadata", "namespace"), f"a {kind} belongs to the whole cluster; take the namespace out"))
    if known and kind in NAMESPACED and not metadata.get("namespace"):
        problems.append((("metadata", "namespace"), f"a {kind} lives in a namespace; name it"))
    name = metadata.get("name")
    if known and isinstance(name, str) and kind in CLUSTER_SCOPED | NAMESPACED and (wrong := name_problem(kind, name)):
        problems.append((("metadata", "name"), wrong))
    for part in ("labels", "annotations"):
        values = metadata.get(part)
        if values is not None and not isinstance(values, dict):
            problems.append((("metadata", part), "must be a mapping of texts"))
            continue
        for key, value in (values or {}).items():
            if value is not None and not isinstance(value, str | SecretRef) and not str(key).startswith(PREFIX):
                problems.append((("metadata", part, str(key)), f"must be a text; quote it: {json.dumps(str(value))}"))


def _metadata(metadata: JSONObject) -> JSONObject:
    kept = {key: value for key, value in metadata.items() if key not in SERVER_FIELDS}
    annotations = {key: value for key, value in (kept.pop("annotations", None) or {}).items() if not str(key).startswith(PREFIX)}
    return {**kept, "annotations": annotations} if annotations else kept


def _check_data(manifest: JSONObject, problems: list[tuple[Loc, str]]) -> None:
    size = 0
    for part in ("data", "stringData", "binaryData"):
        values = manifest.get(part)
        if values is None:
            continue
        if not isinstance(values, dict):
            problems.append(((part,), "must be a mapping"))
            continue
        manifest[part] = {key: "" if value is None else value for key, value in values.items()}
        problems += [((part, str(key)), wrong) for key in values if (wrong := key_problem(str(key)))]
        for key, value in manifest[part].items():
            size += _check_value(KubernetesObject.kind_of(manifest), part, str(key), value, problems)
    if size > LARGEST_DATA:
        problems.append((("data",), f"holds {size} bytes; a {manifest['kind']} may hold {LARGEST_DATA}"))


def _check_value(kind: str, part: str, key: str, value: Any, problems: list[tuple[Loc, str]]) -> int:
    if isinstance(value, SecretRef):
        return 0
    if not isinstance(value, str):
        problems.append(((part, key), f"must be a text; quote it: {json.dumps(str(value))}"))
        return 0
    if part == "binaryData" or (kind == "Secret" and part == "data"):
        try:
            return len(base64.b64decode("".join(value.split()), validate=True))
        except (binascii.Error, ValueError):
            problems.append(((part, key), "is not base64; use stringData for plain text" if kind == "Secret" else "is not base64"))
            return 0
    return len(value.encode())


def _fold_plain(manifest: JSONObject) -> None:
    strings = manifest.pop("stringData", {})
    data = {key: "".join(value.split()) if isinstance(value, str) else value for key, value in manifest.get("data", {}).items()}
    data |= {key: encode(value) for key, value in strings.items() if isinstance(value, str)}
    refs = {key: value for key, value in strings.items() if isinstance(value, SecretRef)}
    for key in refs:
        data.pop(key, None)
    if data:
        manifest["data"] = data
    if refs:
        manifest["stringData"] = refs


def _clean(value: Any, loc: Loc, problems: list[tuple[Loc, str]]) -> Any:
    """Copy without nulls: a null asks a server for its default, and so does leaving the key out."""
    match value:
        case None | bool() | int() | float() | str() | SecretRef():
            return value
        case Mapping():
            return {str(key): _clean(item, (*loc, str(key)), problems) for key, item in value.items() if item is not None}
        case list() | tuple():
            return [_clean(item, (*loc, number), problems) for number, item in enumerate(value)]
    problems.append((loc, f"is a {type(value).__name__}, which JSON does not know; quote it"))
    return None


def _walk_refs(value: Any, path: tuple[str, ...] = ()) -> "Iterator[tuple[tuple[str, ...], SecretRef]]":
    match value:
        case SecretRef():
            yield ("data", *path[1:]) if path[0] == "stringData" else path, value
        case dict():
            for key, item in value.items():
                yield from _walk_refs(item, (*path, key))
        case list():
            for number, item in enumerate(value):
                yield from _walk_refs(item, (*path, str(number)))


def _resolve(value: Any, text_of: Callable[[SecretRef], str]) -> Any:
    match value:
        case SecretRef():
            return text_of(value)
        case dict():
            return {key: _resolve(item, text_of) for key, item in value.items()}
        case list():
            return [_resolve(item, text_of) for item in value]
    return value


def config_hash(spec: KubernetesObject, content: Mapping[ResourceId, KubernetesObject], fingerprint: Fingerprint) -> str:
    """Digest what the pods of ``spec`` read from ConfigMaps and Secrets of this stack; empty when restarts are not asked for."""
    if not spec.restart_on_change:
        return ""
    read = {str(id): content[id].canonical(fingerprint) for id in spec.requires("") if id.kind in ("ConfigMap", "Secret") and id in content}
    parts = {id: [whole.get("data"), whole.get("binaryData")] for id, whole in read.items()}
    return digest(parts)[:32]
