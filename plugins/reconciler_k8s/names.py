"""What kinds are called in resource ids, so that two groups of one cluster never meet in one name; and which names servers take. Pure."""

import re
from functools import cache

BUILT_IN_GROUPS = frozenset(
    {
        "",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "apps",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "extensions",
        "flowcontrol.apiserver.k8s.io",
        "internal.apiserver.k8s.io",
        "networking.k8s.io",
        "node.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "resource.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
        "storagemigration.k8s.io",
    }
)
"""The groups of Kubernetes itself. No kind stands in two of them, except where both are the same object (Event, Ingress)."""


def split_version(api_version: str) -> tuple[str, str]:
    """Give group and version of an ``apiVersion``; the core group is empty."""
    group, _, version = api_version.rpartition("/")
    return group, version


def built_in(group: str) -> bool:
    """Say whether a group is Kubernetes' own."""
    return group in BUILT_IN_GROUPS


@cache
def full_kind(api_version: str, kind: str) -> str:
    """Give the kind that ids have for an object of this ``apiVersion``; every look asks it of every object."""
    return qualified(split_version(api_version)[0], kind)


def qualified(group: str, kind: str) -> str:
    """Give the kind that ids have: alone for a group of Kubernetes' own, ``Kind.group`` for any other. The version is no part of it."""
    return kind if built_in(group) else f"{kind}.{group}"


LABELS = frozenset({"Namespace", "Service"})
"""Kinds whose names become one label of a host name."""
FREE = frozenset({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "APIService", "CSIDriver"})
"""Kinds of Kubernetes' own that take other names, too, such as ``system:node``."""
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_DATA_KEY = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9._-]{1,253}")


def name_problem(kind: str, name: str) -> str:
    """Say what no server would take in the name of a kind of Kubernetes' own; empty when nothing is wrong with it.

    The rules are those of overview/working-with-objects/names. They matter before anything is asked: an object whose namespace comes in
    the same plan is seen by no server until half of the plan is written.
    """
    if kind in FREE:
        return ""
    if kind in LABELS:
        return "" if re.fullmatch(_LABEL, name) else "must be a DNS label: lower-case letters, digits and -, at most 63"
    return "" if _SUBDOMAIN.fullmatch(name) else "must be a DNS name: labels of lower-case letters, digits and -, dots between them"


def key_problem(key: str) -> str:
    """Say what no server would take in a key of a ConfigMap or Secret; empty when nothing is wrong with it."""
    return "" if _DATA_KEY.fullmatch(key) else "is no key: write letters, digits, -, _ and . only, at most 253"
