"""Kubernetes objects, kept in git exactly as ``kubectl`` reads them, applied by server-side apply under one field manager per stack."""

from reconciler.driver import Plugin
from reconciler_k8s.config import KubernetesConfig
from reconciler_k8s.spec import KubernetesObject

PLUGIN = Plugin(
    name="k8s",
    api_version="",
    kinds={"*": KubernetesObject},
    config=KubernetesConfig,
    driver="reconciler_k8s.driver:KubernetesDriver",
    emulator="reconciler_k8s.emulator:KubernetesEmulator",
    annotations=("force", "health", "restart-on-change"),
)
