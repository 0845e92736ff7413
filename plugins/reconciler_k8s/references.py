"""Which other objects an object speaks of, so that they come first. Pure."""

from collections.abc import Iterator
from typing import Any

from reconciler.resource import JSONObject, ResourceId
from reconciler_k8s.names import built_in, full_kind, split_version

WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"})


def ids_required(manifest: JSONObject) -> tuple[ResourceId, ...]:
    """Name the objects that must stand before this one, each once. An id that the stack does not declare is no edge."""
    namespace = manifest["metadata"].get("namespace", "")
    found = dict.fromkeys(_id(kind, namespace, name) for kind, name in _named(manifest) if isinstance(name, str) and name)
    if namespace:
        found = {ResourceId("k8s", "Namespace", namespace): None} | found
    found |= dict.fromkeys(_definitions(manifest))
    return tuple(found)


def pod_template(manifest: JSONObject) -> JSONObject | None:
    """Give the pod template of a workload, the pod itself, or None."""
    spec, kind = manifest.get("spec") or {}, _kind_of(manifest)
    if kind == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    if kind == "Pod":
        return manifest
    template = spec.get("template") if kind in WORKLOADS | {"CronJob"} else None
    return template if isinstance(template, dict) else None


def _kind_of(manifest: JSONObject) -> str:
    return full_kind(str(manifest.get("apiVersion")), str(manifest["kind"]))


def _id(kind: str, namespace: str, name: str) -> ResourceId:
    cluster = kind in ("ClusterRole", "PriorityClass", "StorageClass", "IngressClass")
    return ResourceId("k8s", kind, f"{namespace}/{name}" if namespace and not cluster else name)


def _named(manifest: JSONObject) -> Iterator[tuple[str, Any]]:
    template = pod_template(manifest)
    if template is not None:
        yield from _of_pod(template.get("spec") or {})
    spec = manifest.get("spec")
    match _kind_of(manifest):
        case "Ingress" if isinstance(spec, dict):
            yield from _of_ingress(spec)
        case "RoleBinding" | "ClusterRoleBinding":
            role = manifest.get("roleRef") or {}
            yield str(role.get("kind")), role.get("name")
            for subject in manifest.get("subjects") or []:
                if subject.get("kind") == "ServiceAccount" and subject.get("namespace") == manifest["metadata"].get("namespace"):
                    yield "ServiceAccount", subject.get("name")
        case "HorizontalPodAutoscaler" if isinstance(spec, dict):
            target = spec.get("scaleTargetRef") or {}
            yield _kind_of({"kind": "", **target}), target.get("name")
        case "StatefulSet" if isinstance(spec, dict):
            yield "Service", spec.get("serviceName")
        case "PersistentVolumeClaim" if isinstance(spec, dict):
            yield "StorageClass", spec.get("storageClassName")


def _of_pod(spec: JSONObject) -> Iterator[tuple[str, Any]]:
    yield "ServiceAccount", spec.get("serviceAccountName")
    yield "PriorityClass", spec.get("priorityClassName")
    for secret in spec.get("imagePullSecrets") or []:
        yield "Secret", secret.get("name")
    for volume in spec.get("volumes") or []:
        yield from _of_volume(volume)
        for source in (volume.get("projected") or {}).get("sources") or []:
            yield "ConfigMap", (source.get("configMap") or {}).get("name")
            yield "Secret", (source.get("secret") or {}).get("name")
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        for source in [*(container.get("envFrom") or []), *((one.get("valueFrom") or {}) for one in container.get("env") or [])]:
            for kind, keys in (("ConfigMap", ("configMapRef", "configMapKeyRef")), ("Secret", ("secretRef", "secretKeyRef"))):
                for key in keys:
                    yield kind, (source.get(key) or {}).get("name")


def _of_volume(volume: JSONObject) -> Iterator[tuple[str, Any]]:
    yield "ConfigMap", (volume.get("configMap") or {}).get("name")
    yield "Secret", (volume.get("secret") or {}).get("secretName")
    yield "PersistentVolumeClaim", (volume.get("persistentVolumeClaim") or {}).get("claimName")


def _of_ingress(spec: JSONObject) -> Iterator[tuple[str, Any]]:
    backends = [spec.get("defaultBackend") or {}]
    for rule in spec.get("rules") or []:
        backends += [path.get("backend") or {} for path in (rule.get("http") or {}).get("paths") or []]
    for backend in backends:
        yield "Service", (backend.get("service") or {}).get("name")
    for tls in spec.get("tls") or []:
        yield "Secret", tls.get("secretName")
    yield "IngressClass", spec.get("ingressClassName")


def _definitions(manifest: JSONObject) -> Iterator[ResourceId]:
    """Guess the name of the CRD from the kind, as the usual English plural; the server alone knows it for certain."""
    group, _ = split_version(str(manifest["apiVersion"]))
    if built_in(group):
        return
    kind = str(manifest["kind"]).lower()
    plurals = {kind, kind + "s", kind + "es"} | ({kind[:-1] + "ies"} if kind.endswith("y") else set())
    for plural in sorted(plurals):
        yield ResourceId("k8s", "CustomResourceDefinition", f"{plural}.{group}")
