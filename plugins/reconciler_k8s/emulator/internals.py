"""The structs in which the API server itself holds a pod's template and a claim, as its messages print them.

Only fields in Go's order and with Go's names; what a manifest holds below a struct that is not written down here is printed as it stands.
"""

from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.gotext import Struct, document

_INITIALISMS = {"dns": "DNS", "os": "OS", "tty": "TTY", "ip": "IP"}


def _go_name(key: str) -> str:
    for start, name in _INITIALISMS.items():
        if key == start or (key.startswith(start) and key[len(start) : len(start) + 1].isupper()):
            return name + key[len(start) :]
    return key[:1].upper() + key[1:]


def _struct(text: str) -> Struct:
    """Read ``key`` (a pointer, list or map: null), ``key:zero`` and ``key:=Struct``; ``key>Name`` gives the Go name."""
    fields: dict[str, tuple[str, Any]] = {}
    zeros: dict[str, Any] = {"": None, "text": "", "no": False, "0": 0}
    for word in text.split():
        key, _, zero = word.partition(":")
        key, _, name = key.partition(">")
        fields[key] = (name or _go_name(key), zeros.get(zero, zero))
    return fields


STRUCTS: dict[str, Struct] = {
    "PodSpec": _struct(
        "volumes:[Volume initContainers:[Container containers:[Container ephemeralContainers:[Container restartPolicy:text"
        " terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy:text nodeSelector serviceAccountName:text"
        " automountServiceAccountToken nodeName:text securityContext:=PodSecurityContext! imagePullSecrets:[LocalObjectReference"
        " hostname:text subdomain:text setHostnameAsFQDN affinity schedulerName:text tolerations:[Toleration hostAliases:[HostAlias"
        " priorityClassName:text priority preemptionPolicy dnsConfig readinessGates runtimeClassName overhead enableServiceLinks"
        " topologySpreadConstraints os schedulingGates resourceClaims resources hostnameOverride schedulingGroup"
    ),
    "PodSecurityContext": _struct(
        "hostNetwork:no hostPID:no hostIPC:no shareProcessNamespace hostUsers seLinuxOptions>SELinuxOptions windowsOptions runAsUser"
        " runAsGroup runAsNonRoot supplementalGroups supplementalGroupsPolicy fsGroup>FSGroup fsGroupChangePolicy>FSGroupChangePolicy"
        " sysctls seccompProfile appArmorProfile seLinuxChangePolicy>SELinuxChangePolicy"
    ),
    "Container": _struct(
        "name:text image:text command args workingDir:text ports:[ContainerPort envFrom:[EnvFromSource env:[EnvVar"
        " resources:=ResourceRequirements! resizePolicy restartPolicy restartPolicyRules volumeMounts:[VolumeMount volumeDevices"
        " livenessProbe:=Probe readinessProbe:=Probe startupProbe:=Probe lifecycle terminationMessagePath:text"
        " terminationMessagePolicy:text imagePullPolicy:text securityContext stdin:no stdinOnce:no tty:no"
    ),
    "ContainerPort": _struct("name:text hostPort:0 containerPort:0 protocol:text hostIP:text"),
    "EnvVar": _struct("name:text value:text valueFrom:=EnvVarSource"),
    "EnvVarSource": _struct("fieldRef resourceFieldRef configMapKeyRef:=KeySelector secretKeyRef:=KeySelector fileKeyRef"),
    "KeySelector": _struct("name:text key:text optional"),
    "EnvFromSource": _struct("prefix:text configMapRef:=Reference secretRef:=Reference"),
    "Reference": _struct("name:text optional"),
    "LocalObjectReference": _struct("name:text"),
    "ResourceRequirements": _struct("limits requests claims"),
    "VolumeMount": _struct("name:text readOnly:no recursiveReadOnly mountPath:text subPath:text mountPropagation subPathExpr:text"),
    "Volume": {
        "name": ("Name", ""),
        **_struct(
            "hostPath:=HostPath emptyDir:=EmptyDir gcePersistentDisk>GCEPersistentDisk awsElasticBlockStore>AWSElasticBlockStore gitRepo"
            " secret:=SecretVolume nfs>NFS iscsi>ISCSI glusterfs persistentVolumeClaim:=ClaimVolume rbd>RBD quobyte flexVolume cinder"
            " cephfs>CephFS flocker downwardAPI fc>FC azureFile configMap:=ConfigMapVolume vsphereVolume azureDisk photonPersistentDisk"
            " projected portworxVolume scaleIO storageos>StorageOS csi>CSI ephemeral image"
        ),
    },
    "HostPath": _struct("path:text type"),
    "EmptyDir": _struct("medium:text sizeLimit"),
    "SecretVolume": _struct("secretName:text items defaultMode optional"),
    "ConfigMapVolume": _struct("name:text items defaultMode optional"),
    "ClaimVolume": _struct("claimName:text readOnly:no"),
    "Toleration": _struct("key:text operator:text value:text effect:text tolerationSeconds"),
    "HostAlias": _struct("ip hostnames"),
    "Probe": {
        **_struct("exec httpGet>HTTPGet:=HTTPGet tcpSocket>TCPSocket:=TCPSocket grpc>GRPC"),
        **_struct("initialDelaySeconds:0 timeoutSeconds:0 periodSeconds:0 successThreshold:0 failureThreshold:0"),
        **_struct("terminationGracePeriodSeconds"),
    },
    "HTTPGet": _struct("path:text port:0 host:text scheme:text httpHeaders>HTTPHeaders"),
    "TCPSocket": _struct("port:0 host:text"),
    "PersistentVolumeClaimSpec": _struct(
        "accessModes selector resources:=VolumeResources! volumeName:text storageClassName volumeMode dataSource dataSourceRef"
        " volumeAttributesClassName"
    ),
    "VolumeResources": _struct("limits requests"),
}
"""By the name of the struct."""


HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers")


def pod_template(template: JSONObject) -> JSONObject:
    """Give a pod template as the server prints it: metadata as it stands, and inside the security context what manifests write beside."""
    spec = dict(template.get("spec") or {})
    spec["securityContext"] = {**(spec.get("securityContext") or {}), **{key: spec[key] for key in HOST_FIELDS if key in spec}}
    return {**(template.get("metadata") or {}), "Spec": document(spec, "PodSpec", STRUCTS)}


def claim_spec(spec: JSONObject) -> Any:
    """Give a claim's spec as the server prints it."""
    return document(spec, "PersistentVolumeClaimSpec", STRUCTS)
