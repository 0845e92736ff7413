"""What the server fills in: the documented defaults of each kind, and the one spelling of quantities."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.kinds import Kind
from reconciler_k8s.emulator.shapes import Shape

_QUANTITY = re.compile(r"^([+-]?\d*\.?\d+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|n|u|[eE][+-]?\d+)?$")
_BINARY = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def amount(value: Any) -> Decimal:
    """Give a quantity as a number. Raises ValueError."""
    match = _QUANTITY.match(str(value))
    if match is None:
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix in _BINARY:
        return number * Decimal(1024) ** (_BINARY.index(suffix) + 1)
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        return number * Decimal(10) ** int(suffix[1:])
    return number * Decimal(10) ** _DECIMAL[suffix]


def quantity(value: Any) -> str:
    """Give the canonical spelling of a quantity: ``0.5`` -> ``500m``, ``1024Mi`` -> ``1Gi``. Raises ValueError."""
    number = amount(value)
    if str(value)[-2:] in _BINARY:
        if number == number.to_integral_value():
            return _binary(int(number))
        number = number.quantize(Decimal("0.001"))
    return _decimal(number)


def _binary(number: int) -> str:
    suffix = ""
    for one in _BINARY:
        if number == 0 or number % 1024:
            break
        number, suffix = number // 1024, one
    return f"{number}{suffix}"


def _decimal(number: Decimal) -> str:
    if number == 0:
        return "0"
    for suffix, power in sorted(_DECIMAL.items(), key=lambda pair: -pair[1]):
        scaled = number / Decimal(10) ** power
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{suffix}"
    return f"{int(number * 10**9)}n"


def set_default(target: JSONObject, **values: Any) -> None:
    """Fill in what is missing."""
    for key, value in values.items():
        if target.get(key) is None:
            target[key] = value


def pod_spec(spec: JSONObject) -> None:
    """Default a pod."""
    set_default(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    for volume in spec.get("volumes") or ():
        _volume(volume)
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        _container(container)


def _volume(volume: JSONObject) -> None:
    if not any(key != "name" for key in volume):
        volume["emptyDir"] = {}
    for key in ("configMap", "secret", "projected", "downwardAPI"):
        if isinstance(volume.get(key), dict):
            set_default(volume[key], defaultMode=420)
    if isinstance(volume.get("hostPath"), dict):
        set_default(volume["hostPath"], type="")
    for source in (volume.get("projected") or {}).get("sources") or ():
        if isinstance(source.get("serviceAccountToken"), dict):
            set_default(source["serviceAccountToken"], expirationSeconds=3600)


def _container(container: JSONObject) -> None:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    set_default(
        container,
        imagePullPolicy="Always" if latest else "IfNotPresent",
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        resources={},
    )
    for port in container.get("ports") or ():
        set_default(port, protocol="TCP")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if isinstance(container.get(probe), dict):
            set_default(container[probe], timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            _action(container[probe])
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _action(hook)
    limits = container["resources"].get("limits") or {}
    if limits:
        requests = container["resources"].setdefault("requests", {})
        for key, value in limits.items():
            requests.setdefault(key, value)
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        if isinstance(source.get("fieldRef"), dict):
            set_default(source["fieldRef"], apiVersion="v1")


def _action(probe: JSONObject) -> None:
    if isinstance(probe.get("httpGet"), dict):
        set_default(probe["httpGet"], path="/", scheme="HTTP")
    if isinstance(probe.get("grpc"), dict):
        set_default(probe["grpc"], service="")


def _template(spec: JSONObject) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    pod_spec(template.setdefault("spec", {}))


def _deployment(whole: JSONObject) -> None:
    spec = whole.setdefault("spec", {})
    set_default(spec, replicas=1, strategy={}, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    set_default(spec["strategy"], type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        set_default(spec["strategy"], rollingUpdate={})
        set_default(spec["strategy"]["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")
    _template(spec)


def _stateful_set(whole: JSONObject) -> None:
    spec = whole.setdefault("spec", {})
    set_default(
        spec,
        replicas=1,
        podManagementPolicy="OrderedReady",
        updateStrategy={},
        revisionHistoryLimit=10,
        persistentVolumeClaimRetentionPolicy={},
    )
    set_default(spec["persistentVolumeClaimRetentionPolicy"], whenDeleted="Retain", whenScaled="Retain")
    set_default(spec["updateStrategy"], type="RollingUpdate")
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        set_default(spec["updateStrategy"], rollingUpdate={})
        set_default(spec["updateStrategy"]["rollingUpdate"], partition=0)
    for claim in spec.get("volumeClaimTemplates") or ():
        set_default(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        _claim(claim)
        claim.setdefault("status", {"phase": "Pending"})
    _template(spec)


def _daemon_set(whole: JSONObject) -> None:
    spec = whole.setdefault("spec", {})
    set_default(spec, updateStrategy={}, revisionHistoryLimit=10)
    set_default(spec["updateStrategy"], type="RollingUpdate")
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        set_default(spec["updateStrategy"], rollingUpdate={})
        set_default(spec["updateStrategy"]["rollingUpdate"], maxUnavailable=1, maxSurge=0)
    _template(spec)


def _job(whole: JSONObject) -> None:
    _job_spec(whole.setdefault("spec", {}))
    labels = whole["spec"]["template"]["metadata"].get("labels")
    if labels and not whole["metadata"].get("labels"):
        whole["metadata"]["labels"] = dict(labels)


def _job_spec(spec: JSONObject) -> None:
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    set_default(spec, parallelism=1, backoffLimit=6, completionMode="NonIndexed", suspend=False, podReplacementPolicy="TerminatingOrFailed")
    _template(spec)


def _cron_job(whole: JSONObject) -> None:
    spec = whole.setdefault("spec", {})
    set_default(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    template = spec.setdefault("jobTemplate", {})
    template.setdefault("metadata", {})
    _template(template.setdefault("spec", {}))


def _service(whole: JSONObject) -> None:
    spec = whole.setdefault("spec", {})
    set_default(spec, sessionAffinity="None", type="ClusterIP")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {}).setdefault("timeoutSeconds", 10800)
    for port in spec.get("ports") or ():
        set_default(port, protocol="TCP")
        if port.get("targetPort") in (None, 0, "") and "port" in port:
            port["targetPort"] = port["port"]
    if spec["type"] in ("NodePort", "LoadBalancer"):
        set_default(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        set_default(spec, allocateLoadBalancerNodePorts=True)
    if spec["type"] in ("ClusterIP", "NodePort", "LoadBalancer"):
        set_default(spec, internalTrafficPolicy="Cluster")


def _claim(whole: JSONObject) -> None:
    set_default(whole.setdefault("spec", {}), volumeMode="Filesystem")


def _secret(whole: JSONObject) -> None:
    set_default(whole, type="Opaque")


def _network_policy(whole: JSONObject) -> None:
    spec = whole.setdefault("spec", {})
    set_default(spec, podSelector={})
    for rule in [*(spec.get("ingress") or ()), *(spec.get("egress") or ())]:
        for port in rule.get("ports") or ():
            set_default(port, protocol="TCP")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def _role_binding(whole: JSONObject) -> None:
    group = "rbac.authorization.k8s.io"
    if isinstance(whole.get("roleRef"), dict):
        set_default(whole["roleRef"], apiGroup=group)
    for subject in whole.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            set_default(subject, apiGroup=group)


def _autoscaler(whole: JSONObject) -> None:
    set_default(whole.setdefault("spec", {}), minReplicas=1)


def _storage_class(whole: JSONObject) -> None:
    set_default(whole, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def _pod(whole: JSONObject) -> None:
    spec = whole.setdefault("spec", {})
    pod_spec(spec)
    set_default(spec, enableServiceLinks=True, preemptionPolicy="PreemptLowerPriority", priority=0)


def _definition(whole: JSONObject) -> None:
    spec = whole.setdefault("spec", {})
    set_default(spec, conversion={"strategy": "None"})
    names = spec.setdefault("names", {})
    if names.get("kind"):
        set_default(names, singular=names["kind"].lower(), listKind=names["kind"] + "List")


DEFAULTS: dict[str, Callable[[JSONObject], None]] = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "ReplicaSet": lambda whole: _template(whole.setdefault("spec", {})),
    "Job": _job,
    "CronJob": _cron_job,
    "Service": _service,
    "PersistentVolumeClaim": _claim,
    "Secret": _secret,
    "NetworkPolicy": _network_policy,
    "RoleBinding": _role_binding,
    "ClusterRoleBinding": _role_binding,
    "HorizontalPodAutoscaler": _autoscaler,
    "StorageClass": _storage_class,
    "Pod": _pod,
    "CustomResourceDefinition": _definition,
}


def apply_defaults(kind: Kind, whole: JSONObject) -> None:
    """Fill in defaults and canonical spellings, in place. Raises ValueError for a quantity that is none."""
    if kind.custom:
        custom_defaults(whole, kind.shape)
        return
    if kind.name in ("ConfigMap", "Secret"):
        for part in ("data", "binaryData", "stringData"):
            if isinstance(whole.get(part), dict):
                whole[part] = {key: "" if value is None else value for key, value in whole[part].items()}
    prune_nulls(whole)
    _spell_quantities(whole, kind.shape)
    _spell_status(whole.get("status"), balanced=kind.name == "Service")
    if kind.name in DEFAULTS:
        DEFAULTS[kind.name](whole)
    drop_empty(whole)


def _spell_status(status: Any, *, balanced: bool) -> None:
    """Leave out empty texts of conditions, and say how a balancer's address is reached."""
    if not isinstance(status, dict):
        return
    for condition in status.get("conditions") or ():
        for key in ("message", "reason"):
            if condition.get(key) == "":
                del condition[key]
    for ingress in (status.get("loadBalancer") or {}).get("ingress") or ():
        if balanced and "ip" in ingress and "ports" not in ingress:
            set_default(ingress, ipMode="VIP")


def prune_nulls(value: Any) -> None:
    """Take out nulls, in place."""
    if isinstance(value, dict):
        for key in [key for key, item in value.items() if item is None]:
            del value[key]
        for item in value.values():
            prune_nulls(item)
    elif isinstance(value, list):
        for item in value:
            prune_nulls(item)


def drop_empty(whole: JSONObject) -> None:
    """Leave out what Go's ``omitempty`` leaves out at the places where manifests are known to hold it."""
    for key in ("data", "binaryData", "labels", "annotations"):
        for holder in (whole, whole.get("metadata") or {}):
            if holder.get(key) == {}:
                del holder[key]
    for key in ("finalizers", "ownerReferences"):
        if (whole.get("metadata") or {}).get(key) == []:
            del whole["metadata"][key]


def custom_defaults(value: Any, shape: Shape) -> None:
    """Fill in the defaults of a CRD's schema, in place."""
    if isinstance(value, dict):
        for key, default in shape.defaults.items():
            if key not in value or value[key] is None:
                value[key] = default
        for key, item in value.items():
            below = shape.child(key)
            if below is not None and key != "metadata":
                custom_defaults(item, below)
    elif isinstance(value, list) and shape.sort == "list":
        for item in value:
            custom_defaults(item, shape.items)


def _spell_quantities(value: Any, shape: Shape) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("limits", "requests", "hard", "capacity") and isinstance(item, dict):
                value[key] = {name: quantity(amount) for name, amount in item.items()}
            elif key == "sizeLimit" and isinstance(item, str | int):
                value[key] = quantity(item)
            elif key not in ("metadata", "data", "status"):
                _spell_quantities(item, shape)
    elif isinstance(value, list):
        for item in value:
            _spell_quantities(item, shape)
