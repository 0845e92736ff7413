"""What the server refuses: wrong values of any kind, and changes of what cannot be changed."""

import base64
import binascii
import json
import re
from collections.abc import Callable
from copy import deepcopy

from reconciler.resource import JSONObject
from reconciler_k8s.emulator import workloads
from reconciler_k8s.emulator.custom import schema_problems
from reconciler_k8s.emulator.defaults import amount
from reconciler_k8s.emulator.gotext import difference, strings
from reconciler_k8s.emulator.internals import claim_spec
from reconciler_k8s.emulator.kinds import Kind
from reconciler_k8s.emulator.statuses import Cause, forbidden_field, invalid, quoted, required, too_long, unsupported
from reconciler_k8s.emulator.workloads import IMMUTABLE

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_NAME_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*"
    "[a-z0-9])?)*')"
)
VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
NAME_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', "
    "regex used for validation is '[-._a-zA-Z0-9]+')"
)
STANDARD_FINALIZERS = frozenset({"kubernetes", "foregroundDeletion", "orphan"})
UNQUALIFIED = "name is neither a standard finalizer name nor is it fully qualified"
FROZEN = "field is immutable when `immutable` is set"
LARGEST = 1024 * 1024


def problems(kind: Kind, new: JSONObject, old: JSONObject | None) -> list[Cause]:
    """List what is wrong with an object, or with the change to it."""
    causes = _metadata(kind, new, old)
    if kind.custom:
        return causes + schema_problems(new, kind.schema)
    if kind.name in RULES:
        causes += RULES[kind.name](new, old)
    return causes


def _metadata(kind: Kind, new: JSONObject, old: JSONObject | None) -> list[Cause]:
    metadata, causes = new["metadata"], list[Cause]()
    name = str(metadata.get("name", ""))
    if old is None and not kind.group.startswith("rbac.") and not _SUBDOMAIN.fullmatch(name):
        causes.append(invalid("metadata.name", quoted(name), SUBDOMAIN_RULE))
    for key, value in (metadata.get("labels") or {}).items():
        causes += [invalid("metadata.labels", quoted(key), NAME_RULE)] if not _NAME_PART.fullmatch(key.rpartition("/")[2]) else []
        causes += [invalid("metadata.labels", quoted(value), VALUE_RULE)] if not _LABEL_VALUE.fullmatch(str(value)) else []
    causes += _finalizers(kind, metadata, old)
    for key in metadata.get("annotations") or {}:
        causes += [invalid("metadata.annotations", quoted(key), NAME_RULE)] if not _NAME_PART.fullmatch(key.rpartition("/")[2]) else []
    return causes


def _finalizers(kind: Kind, metadata: JSONObject, old: JSONObject | None) -> list[Cause]:
    finalizers, causes = metadata.get("finalizers") or [], list[Cause]()
    if old is not None and old["metadata"].get("deletionTimestamp"):
        more = sorted(set(finalizers) - set(old["metadata"].get("finalizers") or ()))
        if more:
            why = f"no new finalizers can be added if the object is being deleted, found new finalizers {strings(more)}"
            # the rule is asked twice: by every update and once more by the kind's own
            causes += [forbidden_field("metadata.finalizers", why)] * 2
    for number, name in enumerate(finalizers):
        named_by_domain = "/" in name or name in STANDARD_FINALIZERS
        if not named_by_domain and not kind.custom and kind.name != "CustomResourceDefinition":
            causes.append(invalid(f"metadata.finalizers[{number}]", quoted(name), UNQUALIFIED))
    return causes


def _config_map(new: JSONObject, old: JSONObject | None) -> list[Cause]:
    causes = _keyed(new, ("data", "binaryData"))
    if old is not None and old.get("immutable"):
        causes += [] if new.get("immutable") else [forbidden_field("immutable", FROZEN)]
        causes += [forbidden_field(part, FROZEN) for part in ("data", "binaryData") if new.get(part) != old.get(part)]
    return causes


def _keyed(new: JSONObject, parts: tuple[str, ...]) -> list[Cause]:
    causes = list[Cause]()
    size = 0
    for part in parts:
        for key, value in (new.get(part) or {}).items():
            size += len(str(value))
            if not _CONFIG_KEY.fullmatch(key):
                causes.append(invalid(f"{part}[{key}]", quoted(key), KEY_RULE))
    return causes + ([too_long("", f"may not be more than {LARGEST} bytes")] if size > LARGEST else [])


def _secret(new: JSONObject, old: JSONObject | None) -> list[Cause]:
    causes = _keyed(new, ("data",))
    data = new.get("data") or {}
    if new.get("type") == "kubernetes.io/tls":
        causes += [required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data]
    if new.get("type") == "kubernetes.io/dockerconfigjson":
        causes += _docker(data)
    if old is not None:
        if old.get("immutable"):
            causes += [] if new.get("immutable") else [forbidden_field("immutable", FROZEN)]
            causes += [forbidden_field("data", FROZEN)] if new.get("data") != old.get("data") else []
        if new.get("type") != old.get("type"):
            causes.append(invalid("type", quoted(new.get("type")), IMMUTABLE))
    return causes


def _docker(data: JSONObject) -> list[Cause]:
    if ".dockerconfigjson" not in data:
        return [required("data[.dockerconfigjson]")]
    try:
        json.loads(base64.b64decode(data[".dockerconfigjson"]))
    except (ValueError, binascii.Error):
        why = "invalid character 'o' in literal null (expecting 'u')"
        return [invalid("data[.dockerconfigjson]", '"<secret contents redacted>"', why)]
    return []


def _service(new: JSONObject, old: JSONObject | None) -> list[Cause]:
    spec, causes = new.get("spec") or {}, list[Cause]()
    name = str(new["metadata"].get("name", ""))
    if old is None and "." in name:
        causes.append(invalid("metadata.name", quoted(name), "must not contain dots"))
    ports = spec.get("ports") or []
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        causes.append(required("spec.ports"))
    names = set[str]()
    for number, port in enumerate(ports):
        if port.get("name") in names:
            causes.append(("FieldValueDuplicate", f"Duplicate value: {quoted(port['name'])}", f"spec.ports[{number}].name"))
        names |= {port["name"]} if port.get("name") else set()
        causes += _service_port(f"spec.ports[{number}]", port, spec, several=len(ports) > 1)
    if spec.get("type") not in ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"):
        causes.append(unsupported("spec.type", str(spec.get("type")), ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")))
    if spec.get("type") == "ExternalName" and not spec.get("externalName"):
        causes.append(
            invalid("spec.externalName", '""', "a lowercase RFC 1123 hostname must consist of lower case alphanumeric characters")
        )
    before = (old or {}).get("spec") or {}
    if spec.get("ipFamilyPolicy") == "RequireDualStack" and spec.get("clusterIP") not in (None, "None"):
        why = "this cluster is not configured for dual-stack services"
        return [
            invalid("spec.ipFamilyPolicy", '"RequireDualStack"', why),
            invalid("spec.ipFamilies[1]", '"IPv6"', "not configured on this cluster"),
        ]
    kept = before.get("type") != "ExternalName" and spec.get("type") != "ExternalName"
    if kept and before.get("clusterIP") and spec.get("clusterIP") not in (None, before["clusterIP"]):
        causes.append(invalid("spec.clusterIPs[0]", quoted([spec["clusterIP"]]), "may not change once set"))
    if before.get("type") == "LoadBalancer" == spec.get("type") and before.get("loadBalancerClass") != spec.get("loadBalancerClass"):
        causes.append(invalid("spec.loadBalancerClass", quoted(spec.get("loadBalancerClass")), "may not change once set"))
    return causes


def _service_port(field: str, port: JSONObject, spec: JSONObject, *, several: bool) -> list[Cause]:
    causes = list[Cause]()
    number, target = port.get("port", 0), port.get("targetPort", port.get("port", 0))
    if several and not port.get("name"):
        causes.append(required(f"{field}.name"))
    if not isinstance(number, int) or not 1 <= number <= 65535:
        causes.append(invalid(f"{field}.port", number, "must be between 1 and 65535, inclusive"))
    if port.get("protocol") not in ("TCP", "UDP", "SCTP"):
        causes.append(unsupported(f"{field}.protocol", str(port.get("protocol")), ("SCTP", "TCP", "UDP")))
    if isinstance(target, int) and not 1 <= target <= 65535:
        causes.append(invalid(f"{field}.targetPort", target, "must be between 1 and 65535, inclusive"))
    if spec.get("type") == "ClusterIP" and port.get("nodePort"):
        causes.append(forbidden_field(f"{field}.nodePort", "may not be used when `type` is 'ClusterIP'"))
    return causes


def _claim(new: JSONObject, old: JSONObject | None) -> list[Cause]:
    spec, causes = new.get("spec") or {}, list[Cause]()
    if not spec.get("accessModes"):
        causes.append(required("spec.accessModes", "at least 1 access mode is required"))
    if "storage" not in ((spec.get("resources") or {}).get("requests") or {}):
        causes.append(required("spec.resources[storage]"))
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size == "0":
        causes.append(invalid("spec.resources[storage]", '"0"', "must be greater than zero"))
    if old is not None:
        causes += _claim_change(old, new)
    return causes


def _claim_change(old: JSONObject, new: JSONObject) -> list[Cause]:
    """A class may be chosen where there is none, a bound claim may grow; nothing else may change."""
    before, after = deepcopy(old["spec"]), deepcopy(new["spec"])
    if not before.get("storageClassName") and after.get("storageClassName"):
        before["storageClassName"] = after["storageClassName"]
    if not before.get("volumeName") and after.get("volumeName"):
        before["volumeName"] = after["volumeName"]
    if (new.get("status") or {}).get("phase") == "Bound":
        size = (old["spec"].get("resources") or {}).get("requests", {}).get("storage")
        after.setdefault("resources", {}).setdefault("requests", {})["storage"] = size
    if before != after:
        why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        return [forbidden_field("spec", f"{why}\n{difference(claim_spec(before), claim_spec(after))}")]
    capacity = ((old.get("status") or {}).get("capacity") or {}).get("storage")
    wanted = ((new["spec"].get("resources") or {}).get("requests") or {}).get("storage")
    if capacity and wanted and amount(wanted) < amount(capacity):
        return [forbidden_field("spec.resources.requests.storage", "field can not be less than status.capacity")]
    return []


def claim_grows(old: JSONObject, new: JSONObject) -> bool:
    """Say whether a claim asks for more than before."""
    before, after = (((one["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0") for one in (old, new))
    return before != after and amount(after) > amount(before)


def _cron_job(new: JSONObject, old: JSONObject | None) -> list[Cause]:
    spec, causes = new.get("spec") or {}, list[Cause]()
    schedule, policy = str(spec.get("schedule", "")), str(spec.get("concurrencyPolicy"))
    parts = schedule.split()
    if len(parts) != 5 and not schedule.startswith("@"):
        causes.append(invalid("spec.schedule", quoted(schedule), f"expected exactly 5 fields, found {len(parts)}: [{' '.join(parts)}]"))
    if policy not in ("Allow", "Forbid", "Replace"):
        causes.append(unsupported("spec.concurrencyPolicy", policy, ("Allow", "Forbid", "Replace")))
    return causes


def _ingress(new: JSONObject, old: JSONObject | None) -> list[Cause]:
    spec, causes = new.get("spec") or {}, list[Cause]()
    if not spec.get("rules") and not spec.get("defaultBackend"):
        causes.append(invalid("spec", "null", "either `defaultBackend` or `rules` must be specified"))
    for number, rule in enumerate(spec.get("rules") or ()):
        here = f"spec.rules[{number}]"
        host = str(rule.get("host") or "")
        if host and not _SUBDOMAIN.fullmatch(host.removeprefix("*.")):
            causes.append(invalid(f"{here}.host", quoted(host), SUBDOMAIN_RULE))
        for index, path in enumerate((rule.get("http") or {}).get("paths") or ()):
            causes += _ingress_path(f"{here}.http.paths[{index}]", path)
    return causes


def _ingress_path(here: str, path: JSONObject) -> list[Cause]:
    causes = list[Cause]()
    if not path.get("pathType"):
        causes.append(required(f"{here}.pathType", "pathType must be specified"))
    elif path.get("pathType") != "ImplementationSpecific" and not str(path.get("path", "")).startswith("/"):
        causes.append(invalid(f"{here}.path", quoted(path.get("path", "")), "must be an absolute path"))
    port = ((path.get("backend") or {}).get("service") or {}).get("port") or {}
    if port.get("name") and port.get("number"):
        causes.append(invalid(f"{here}.backend", '""', "cannot set both port name & port number"))
    return causes


def _binding(new: JSONObject, old: JSONObject | None) -> list[Cause]:
    role = new.get("roleRef") or {}
    if role.get("kind") not in ("Role", "ClusterRole"):
        message = f'Unsupported value: "{role.get("kind") or ""}": supported values: "Role", "ClusterRole"'
        return [("FieldValueNotSupported", message, "roleRef.kind"), *([] if role.get("name") else [required("roleRef.name")])]
    if old is not None and old.get("roleRef") != new.get("roleRef"):
        shown = {"APIGroup": role.get("apiGroup"), "Kind": role.get("kind"), "Name": role.get("name")}
        return [invalid("roleRef", quoted(shown), "cannot change roleRef")]
    return []


RULES: dict[str, Callable[[JSONObject, JSONObject | None], list[Cause]]] = {
    "ConfigMap": _config_map,
    "Secret": _secret,
    "Service": _service,
    "Deployment": workloads.deployment,
    "DaemonSet": workloads.workload,
    "StatefulSet": workloads.stateful_set,
    "Job": workloads.job,
    "CronJob": _cron_job,
    "Ingress": _ingress,
    "PersistentVolumeClaim": _claim,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
}
