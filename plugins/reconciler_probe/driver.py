"""Probes as resources. Looking is all there is: what is live is by definition what is wished, and the news is in the health."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Lock

from reconciler.driver import Change, Health, Level, Observation, Outcome, Scope, Status
from reconciler.errors import ReconcilerError
from reconciler.resource import JSONObject, Resource, ResourceId, Text, digest
from reconciler_probe.checks import check_dns, check_http, check_tcp
from reconciler_probe.client import CheckFailed, Network
from reconciler_probe.config import ProbeConfig
from reconciler_probe.mail import check_mail
from reconciler_probe.roundtrip import check_roundtrip
from reconciler_probe.spec import Dns, Http, Mail, MailRoundtrip, Tcp

BAD_NEWS_LASTS = 60.0
"""Seconds for which a failed round trip is kept at most: people wait for it to turn green."""


class ProbeDriver:
    """Runs checks from here. Every wish is observed as fulfilled, so no change is ever planned; a failing check shows as health.

    The only thing ever sent beyond a greeting is the message of a round trip, which is the check itself and is deleted again.
    """

    def __init__(self, config: ProbeConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the settings; nothing is opened yet. ``clock`` gives seconds."""
        self.config, self._network, self._clock, self._lock = config, Network(config), clock, Lock()
        self._kept: dict[ResourceId, tuple[str, float, Health]] = {}

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """Run all checks, at most ``workers`` at a time."""
        if not wanted:
            return []
        contexts = [copy_context() for _ in wanted]
        with ThreadPoolExecutor(min(self.config.workers, len(wanted)), "probe") as pool:
            return list(pool.map(lambda context, resource: context.run(self._observe, resource, scope), contexts, wanted))

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        """Do nothing, and say so: there is nothing that could be written."""
        return [Outcome(change.id, Status.UNCHANGED, "a probe is never written") for change in changes]

    def close(self) -> None:
        """Forget kept results; no connection outlives its check."""
        self._kept.clear()

    def _observe(self, resource: Resource, scope: Scope) -> Observation:
        canonical = resource.spec.canonical(scope.fingerprint)
        with scope.span(f"CHECK {resource.id.kind}", probe=resource.id.name):
            health = self._health(resource, canonical, scope)
        return Observation(resource.id, canonical, health=health, status={"healthy": health.ok, "message": health.message})

    def _health(self, resource: Resource, canonical: JSONObject, scope: Scope) -> Health:
        """Run one check and turn whatever happens into health. A bug is named by its type only: its text might carry a secret."""
        try:
            if isinstance(resource.spec, MailRoundtrip):
                return self._roundtrip(resource.id, resource.spec, digest([canonical, scope.revision]), scope)
            return Health(Level.HEALTHY, check(self._network, resource))
        except CheckFailed as error:
            return Health(error.level, str(error))
        except ReconcilerError as error:
            return Health(Level.UNKNOWN, str(error))
        except Exception as error:
            return Health(Level.UNKNOWN, f"bug: {type(error).__name__} in the check")

    def _roundtrip(self, id: ResourceId, spec: MailRoundtrip, version: str, scope: Scope) -> Health:
        """Give the kept result, or send a message when it is too old, the wish or a password has changed, or a new commit came."""
        with self._lock:
            known, at, health = self._kept.get(id, ("", 0.0, Health()))
        if known == version and at >= scope.since and self._clock() - at < (spec.every if health.ok else min(spec.every, BAD_NEWS_LASTS)):
            return health

        def plain(text: Text) -> str:
            # a check has no apply, so this is the one place where a secret is revealed while observing; it goes straight into the login
            return text if isinstance(text, str) else scope.reveal(text).reveal()

        try:
            health = Health(Level.HEALTHY, check_roundtrip(self._network, spec, f"probe-{digest([scope.owner, str(id)])[:16]}", plain))
        except CheckFailed as error:
            health = Health(error.level, str(error))
            if error.untried:  # a gate need not stay red for a minute because a connection was cut while the path moved
                return health
        with self._lock:
            self._kept[id] = (version, self._clock(), health)
        return health


def check(network: Network, resource: Resource) -> str:
    """Run the check of a spec that needs no secret. Gives a sentence; raises CheckFailed."""
    match resource.spec:
        case Tcp() as spec:
            return check_tcp(network, spec)
        case Mail() as spec:
            return check_mail(network, spec)
        case Dns() as spec:
            return check_dns(network, spec)
        case Http() as spec:
            return check_http(network, spec)
    raise TypeError(f"{resource.id} is no probe")
