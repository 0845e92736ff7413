"""The kinds by their names in git. Pure; knows no client."""

from collections.abc import Mapping

from reconciler.resource import Spec
from reconciler_vault.group import IdentityGroup
from reconciler_vault.spec import AppRole, AuthMount, KubernetesRole, Mount, Policy, Secret

KINDS: Mapping[str, type[Spec]] = {
    "Secret": Secret,
    "Policy": Policy,
    "IdentityGroup": IdentityGroup,
    "KubernetesRole": KubernetesRole,
    "AppRole": AppRole,
    "Mount": Mount,
    "AuthMount": AuthMount,
}
"""What the plugin offers."""
