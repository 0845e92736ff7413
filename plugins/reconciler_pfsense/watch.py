"""Hints from a firewall: a glance every few seconds at the hash of its configuration, and at who wrote it when that is another one.

A glance runs no code of pfSense while the file is as it was. Our own writes are known by the description of their revision and give no
hint. It has a connection of its own, so that it never stands in the way of a pass.
"""

import logging
from collections.abc import Iterator
from threading import Event

from reconciler.driver import Scope
from reconciler.errors import Transient
from reconciler.resource import JSONObject, ResourceId
from reconciler_pfsense.agent import Program, foreign_revisions
from reconciler_pfsense.client import Client
from reconciler_pfsense.xmlrpc import XmlRpcClient

LONGEST = 60.0
"""Seconds between two glances at most, however often the firewall could not be reached."""

log = logging.getLogger(__name__)


def watch(client: Client | XmlRpcClient, scope: Scope, stop: Event, every: float) -> Iterator[ResourceId | None]:
    """Yield None, "look at everything", for each foreign change until ``stop`` is set; ``every`` is in seconds.

    Raises DriverError when the firewall cannot be reached at the beginning, and Permanent whenever it refuses us.
    """
    try:
        known, pause = _glance(client, scope, "")["sha"], every
        while not stop.wait(pause):
            try:
                seen = _glance(client, scope, known)
            except Transient as error:
                pause = min(pause * 2, LONGEST)
                log.info("%s; looked at again in %.0f s", error, pause)
                continue
            pause = every
            if seen["sha"] == known:
                continue
            known = seen["sha"]
            if foreign := foreign_revisions(seen["revision"], seen["history"]):
                log.info("%s was changed: %s", client.target, foreign[0].get("description", "it does not say by whom"))
                yield None
    finally:
        client.close()


def _glance(client: Client | XmlRpcClient, scope: Scope, known: str) -> JSONObject:
    with scope.span("php glance", target=client.target):
        return client.run(Program.of("glance", known=known))
