"""The settings of one cluster. Pure: imports only pydantic."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from reconciler.resource import Address


class KubernetesConfig(BaseModel):
    """How to reach one cluster and how hard to push it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kubeconfig: Path | None = Field(
        None, description="Path of a kubeconfig file with a token, client certificate or exec plugin. Give this, in_cluster or url."
    )
    context: str = Field("", description="Context of the kubeconfig; empty means its current one.")
    in_cluster: bool = Field(False, description="Use the service account that Kubernetes mounts into the daemon's own pod.")
    url: Address = Field("", description="Base URL of the API server, for a token without a kubeconfig.")
    token: SecretStr | None = Field(None, description="Bearer token for url.")
    ca_file: Path | None = Field(None, description="PEM file of the authority that signed the server's certificate; default: the system's.")
    insecure: bool = Field(False, description="Do not check the server's certificate. For emulators and test clusters only.")
    timeout: float = Field(
        30, gt=0, le=600, description="Seconds for one call; a LIST of 5,000 objects takes under one on a loaded server."
    )
    page: int = Field(
        5000,
        ge=1,
        le=50_000,
        description="Objects per page of a LIST of metadata, 0.7 KB each; a tenth of it where objects are read whole. It bounds memory.",
    )
    workers: int = Field(8, ge=1, le=64, description="Calls at the same time; more than 8 only add latency on a small control plane.")
    wait: float = Field(30, ge=0, le=600, description="Seconds to wait for a CRD to be served and for a deleted object to be gone.")
    strict: bool = Field(
        False,
        description="Write an object only in the very version that was planned; any change meanwhile, even of its status, waits for the "
        "next pass. Otherwise it only has to be the same object, and the server guards each field.",
    )
    namespaces: tuple[str, ...] = Field((), description="List these namespaces one by one, for narrow rights; empty lists the cluster.")
    inventory_namespace: str = Field("default", description="Where the ConfigMap stands that remembers the kinds a stack has used.")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        ways = [name for name in ("kubeconfig", "in_cluster", "url") if getattr(self, name)]
        if len(ways) != 1:
            raise ValueError(f"give exactly one of kubeconfig, in_cluster and url, not {' and '.join(ways) or 'none'}")
        return self
