"""Rules over what a stack wants, before anything is asked or written: whether its systems agree about mail.

Pure and offline. It knows no vendor and no plugin: kinds are taken by name and shape. What stands outside the stack is unknown, never
wrong; a ``resolver`` of recorded answers may say more. A stack without mail is not looked at.

To add a rule: name it in ``findings.RULES``, write a small function over the view in the module of its subject, and list it in the module's
``RULES``. To silence one: ``reconciler/waive`` on the resource that the finding names.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from reconciler.checks import dkim, dmarc, dns, mta_sts, path, quota, relay, secrets, spf, tls_reports
from reconciler.checks.findings import Finding, Severity
from reconciler.checks.view import NO_FACTS, NONE_RELEASED, Facts, MailView, Resolver
from reconciler.resource import ResourceId

if TYPE_CHECKING:
    from reconciler.stack import Stack

CHECKS: tuple[Callable[[MailView], Iterator[Finding]], ...] = tuple(
    rule for room in (dns, spf, dkim, dmarc, mta_sts, tls_reports, path, relay, secrets, quota) for rule in room.RULES
)

__all__ = ["CHECKS", "Finding", "MailView", "Resolver", "Severity", "check"]


def check(
    stack: "Stack",
    *,
    resolver: Resolver | None = None,
    leaving: Collection[ResourceId] = (),
    facts: Facts = NO_FACTS,
    released: Mapping[str, ResourceId] = NONE_RELEASED,
) -> tuple[Finding, ...]:
    """Give what the rules find and nobody waived, the worst first.

    ``leaving`` is what a plan would delete; ``facts`` is what may be told of the secrets that are there; ``released`` are the addresses
    that a plan takes away, each with the Service that had it.
    """
    view = MailView.of(stack, resolver, leaving, facts, released)
    if not view.about_mail:
        return ()
    found = {one for rule in CHECKS for one in rule(view)}
    return tuple(sorted(one for one in found if one.rule not in stack.graph.resources[one.resource].policy.waive))
