"""Which kinds the emulator serves, and how discovery tells of them."""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.shapes import ANY, Shape, custom, named

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Kind:
    """One served kind."""

    group: str
    version: str
    name: str
    plural: str
    singular: str
    namespaced: bool
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    shape: Shape = field(default=ANY, compare=False)
    verbs: tuple[str, ...] = ALL_VERBS
    custom: bool = False
    list_kind: str = ""
    storage_version: str = ""
    schema: JSONObject = field(default_factory=dict, compare=False, hash=False)
    columns: tuple[JSONObject, ...] = field(default=(), compare=False, hash=False)

    @property
    def api_version(self) -> str:
        """Give ``group/version``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def gvk(self) -> str:
        """Give the kind as Go prints it."""
        return f"{self.group}/{self.version}, Kind={self.name}"

    @property
    def qualified(self) -> str:
        """Give ``plural.group``, as messages name a resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def key(self) -> tuple[str, str]:
        """Give what all versions of the kind share."""
        return self.group, self.plural


BUILT_IN = """
/v1 ConfigMap configmaps N cm - -
/v1 Endpoints endpoints N ep - -
/v1 Event events N ev - -
/v1 LimitRange limitranges N limits - -
/v1 Namespace namespaces C ns - finalize,status
/v1 Node nodes C no - proxy,status
/v1 PersistentVolumeClaim persistentvolumeclaims N pvc - status
/v1 PersistentVolume persistentvolumes C pv - status
/v1 Pod pods N po all attach,binding,ephemeralcontainers,eviction,exec,log,portforward,proxy,resize,status
/v1 ResourceQuota resourcequotas N quota - status
/v1 Secret secrets N - - -
/v1 ServiceAccount serviceaccounts N sa - token
/v1 Service services N svc all proxy,status
apps/v1 DaemonSet daemonsets N ds all status
apps/v1 Deployment deployments N deploy all scale,status
apps/v1 ReplicaSet replicasets N rs all scale,status
apps/v1 StatefulSet statefulsets N sts all scale,status
autoscaling/v2 HorizontalPodAutoscaler horizontalpodautoscalers N hpa all status
autoscaling/v1 HorizontalPodAutoscaler horizontalpodautoscalers N hpa all status
batch/v1 CronJob cronjobs N cj all status
batch/v1 Job jobs N - all status
networking.k8s.io/v1 IngressClass ingressclasses C - - -
networking.k8s.io/v1 Ingress ingresses N ing - status
networking.k8s.io/v1 NetworkPolicy networkpolicies N netpol - -
policy/v1 PodDisruptionBudget poddisruptionbudgets N pdb - status
rbac.authorization.k8s.io/v1 ClusterRoleBinding clusterrolebindings C - - -
rbac.authorization.k8s.io/v1 ClusterRole clusterroles C - - -
rbac.authorization.k8s.io/v1 RoleBinding rolebindings N - - -
rbac.authorization.k8s.io/v1 Role roles N - - -
storage.k8s.io/v1 StorageClass storageclasses C sc - -
apiextensions.k8s.io/v1 CustomResourceDefinition customresourcedefinitions C crd,crds api-extensions status
scheduling.k8s.io/v1 PriorityClass priorityclasses C pc - -
coordination.k8s.io/v1 Lease leases N - - -
discovery.k8s.io/v1 EndpointSlice endpointslices N - - -
authentication.k8s.io/v1 SelfSubjectReview selfsubjectreviews C - - - create
authorization.k8s.io/v1 SelfSubjectAccessReview selfsubjectaccessreviews C - - - create
"""
SINGULAR = {"endpoints": "endpoints"}
_WRITTEN = ("get", "patch", "update")
_STREAMED = ("create", "get")
SUB_VERBS = {
    "attach": _STREAMED,
    "binding": ("create",),
    "ephemeralcontainers": _WRITTEN,
    "eviction": ("create",),
    "exec": _STREAMED,
    "finalize": ("update",),
    "log": ("get",),
    "portforward": _STREAMED,
    "proxy": ("create", "delete", "get", "patch", "update"),
    "resize": _WRITTEN,
    "scale": _WRITTEN,
    "status": _WRITTEN,
    "token": ("create",),
}
SUB_KINDS = {
    "attach": "PodAttachOptions",
    "binding": "Binding",
    "eviction": "Eviction",
    "exec": "PodExecOptions",
    "portforward": "PodPortForwardOptions",
    "scale": "Scale",
    "token": "TokenRequest",
}
SUB_GROUPS = {"eviction": ("policy", "v1"), "scale": ("autoscaling", "v1"), "token": ("authentication.k8s.io", "v1")}


_TEXT = Shape("scalar", scalar="string")
_NAMES = Shape("struct", fields={**dict.fromkeys(("plural", "singular", "kind", "listKind"), _TEXT), "shortNames": ANY, "categories": ANY})
DEFINITION = Shape(
    "struct",
    fields={
        "apiVersion": _TEXT,
        "kind": _TEXT,
        "metadata": "=meta.v1.ObjectMeta",
        "spec": Shape(
            "struct",
            fields={
                "group": _TEXT,
                "names": _NAMES,
                "scope": _TEXT,
                "versions": Shape("list", element=ANY, atomic=True),
                "conversion": Shape("struct", fields={"strategy": _TEXT, "webhook": ANY}),
                "preserveUnknownFields": Shape("scalar", scalar="boolean"),
            },
        ),
        "status": Shape(
            "struct",
            fields={
                "conditions": Shape("list", element=ANY, keys=("type",)),
                "acceptedNames": _NAMES,
                "storedVersions": Shape("list", element=ANY, atomic=True),
            },
        ),
    },
)
"""The type of a CRD itself, which the published schema leaves out."""


def _names(text: str) -> tuple[str, ...]:
    return () if text == "-" else tuple(text.split(","))


def _shape_name(group: str, version: str, kind: str) -> str:
    return f"{(group or 'core').removesuffix('.authorization.k8s.io').removesuffix('.k8s.io')}.{version}.{kind}"


def built_in() -> Iterator[Kind]:
    """Give the kinds that every cluster serves."""
    for line in BUILT_IN.strip().splitlines():
        api, name, plural, scope, short, categories, subs, *verbs = line.split()
        group, _, version = api.rpartition("/")
        yield Kind(
            group,
            version,
            name,
            plural,
            SINGULAR.get(plural, name.lower()),
            scope == "N",
            _names(short),
            _names(categories),
            _names(subs),
            DEFINITION if name == "CustomResourceDefinition" else named(_shape_name(group, version, name)),
            tuple(verbs) or (tuple(verb for verb in ALL_VERBS if verb != "deletecollection") if name == "Namespace" else ALL_VERBS),
        )


def of_crd(crd: JSONObject) -> Iterator[Kind]:
    """Give the kinds that a CRD defines, one for each served version."""
    spec = crd["spec"]
    names = spec["names"]
    storage = next((one["name"] for one in spec["versions"] if one.get("storage")), "")
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        yield Kind(
            spec["group"],
            version["name"],
            names["kind"],
            names["plural"],
            names.get("singular") or names["kind"].lower(),
            spec.get("scope") == "Namespaced",
            tuple(names.get("shortNames") or ()),
            tuple(names.get("categories") or ()),
            tuple(sorted(set(version.get("subresources") or {}))),
            custom(schema),
            ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"),
            custom=True,
            list_kind=names.get("listKind") or names["kind"] + "List",
            storage_version=storage,
            schema=schema,
            columns=tuple(version.get("additionalPrinterColumns") or ()),
        )


def _storage_hash(kind: Kind) -> str:
    text = f"{kind.group}/{kind.storage_version or kind.version}/{kind.name}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


def aggregated(kinds: Iterable[Kind], *, core: bool) -> JSONObject:
    """Write APIGroupDiscoveryList: the core group, or all the others."""
    groups: dict[str, dict[str, list[JSONObject]]] = {}
    for kind in kinds:
        if (kind.group == "") is core:
            groups.setdefault(kind.group, {}).setdefault(kind.version, []).append(_resource(kind))
    items = [
        {
            "metadata": {"name": group} if group else {},
            "versions": [{"version": version, "resources": found, "freshness": "Current"} for version, found in versions.items()],
        }
        for group, versions in groups.items()
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _resource(kind: Kind) -> JSONObject:
    response = {"group": kind.group, "version": kind.version, "kind": kind.name}
    if not kind.custom:
        response |= {"group": "", "version": ""}
    found: JSONObject = {
        "resource": kind.plural,
        "responseKind": response,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short:
        found["shortNames"] = list(kind.short)
    if kind.categories:
        found["categories"] = list(kind.categories)
    if kind.subresources:
        found["subresources"] = [_sub(kind, sub, response) for sub in kind.subresources]
    return found


def _sub(kind: Kind, sub: str, response: JSONObject) -> JSONObject:
    shown = dict(response)
    if sub in SUB_KINDS:
        group, version = SUB_GROUPS.get(sub, ("", ""))
        shown = {"group": group, "version": version, "kind": SUB_KINDS[sub]}
    if sub == "proxy":
        shown["kind"] = f"{kind.name}ProxyOptions"
    return {"subresource": sub, "responseKind": shown, "verbs": list(SUB_VERBS[sub])}


def legacy_list(kinds: Iterable[Kind], group: str, version: str) -> JSONObject:
    """Write APIResourceList of one group version."""
    found: list[JSONObject] = []
    for kind in kinds:
        if (kind.group, kind.version) != (group, version):
            continue
        one: JSONObject = {
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.name,
            "verbs": list(kind.verbs),
        }
        one |= {"shortNames": list(kind.short)} if kind.short else {}
        one |= {"categories": list(kind.categories)} if kind.categories else {}
        found.append(one | ({"storageVersionHash": _storage_hash(kind)} if "list" in kind.verbs else {}))
        found += [_legacy_sub(kind, sub) for sub in kind.subresources]
    answer: JSONObject = {"kind": "APIResourceList", "groupVersion": f"{group}/{version}" if group else version, "resources": found}
    return answer | ({"apiVersion": "v1"} if group else {})


def _legacy_sub(kind: Kind, sub: str) -> JSONObject:
    one: JSONObject = {
        "name": f"{kind.plural}/{sub}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": SUB_KINDS.get(sub, f"{kind.name}ProxyOptions" if sub == "proxy" else kind.name),
        "verbs": list(SUB_VERBS[sub]),
    }
    if sub in SUB_GROUPS:
        one["group"], one["version"] = SUB_GROUPS[sub]
    return one


def legacy_groups(kinds: Iterable[Kind]) -> list[JSONObject]:
    """Write the APIGroup of every group."""
    versions: dict[str, list[str]] = {}
    for kind in kinds:
        if kind.group and kind.version not in versions.setdefault(kind.group, []):
            versions[kind.group].append(kind.version)
    return [
        {
            "name": group,
            "versions": [{"groupVersion": f"{group}/{one}", "version": one} for one in found],
            "preferredVersion": {"groupVersion": f"{group}/{found[0]}", "version": found[0]},
        }
        for group, found in versions.items()
    ]
