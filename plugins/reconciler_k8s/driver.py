"""The Kubernetes driver: one cluster, one field manager per stack, nothing written that the server was not asked about first."""

from collections.abc import Iterator, Sequence
from threading import Event

from reconciler.driver import Change, Observation, Outcome, Scope
from reconciler.resource import Resource, ResourceId
from reconciler_k8s.client import Cluster
from reconciler_k8s.config import KubernetesConfig
from reconciler_k8s.look import Look
from reconciler_k8s.sight import content_of
from reconciler_k8s.watch import Watch
from reconciler_k8s.write import Writer


class KubernetesDriver:
    """Reads by one metadata listing per kind and a local compare of ``managedFields``; writes by server-side apply."""

    def __init__(self, config: KubernetesConfig) -> None:
        """Take the settings; nothing is contacted before the first observation."""
        self._cluster = Cluster(config)

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """Say what is there, in about one request per kind and three more; what looks changed costs a dry-run each."""
        self._cluster.span = scope.span
        return Look(self._cluster, scope).at(wanted)

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        """Make the changes; several at a time within a stage."""
        self._cluster.span = scope.span
        return Writer(self._cluster, scope, content_of(scope.wanted.values())).apply(changes)

    def watch(self, scope: Scope, stop: Event) -> Iterator[ResourceId | None]:
        """Yield what is no longer as we left it, until ``stop`` is set; over connections of its own.

        Raises DriverError when the cluster cannot be reached at the beginning; later trouble is waited out.
        """
        cluster = Cluster(self._cluster.config, scope.span)
        try:
            yield from Watch(cluster, scope, stop).run()
        finally:
            cluster.close()

    def close(self) -> None:
        """Drop the connections."""
        self._cluster.close()
