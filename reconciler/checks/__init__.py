"""Rules over what a stack wants, before anything is asked or written: whether its systems agree about mail.

Pure and offline. It knows no vendor and no plugin: kinds are taken by name and shape. What stands outside the stack is unknown, never
wrong; a ``resolver`` of recorded answers may say more. A stack without mail is not looked at.

To add a rule: name it in ``findings.RULES``, write a small function over the view in the module of its subject, and list it in the module's
``RULES``. To silence one: ``reconciler/waive`` on the resource that the finding names.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from reconciler.checks import dkim, dmarc, dns, mta_sts, path, quota, relay, secrets, spf, tls_reports
from reconciler.checks.findings import Finding, Severity
from reconciler.checks.view import NO_FACTS, Facts, MailView, Resolver

if TYPE_CHECKING:
    from reconciler.plan import Plan
    from reconciler.stack import Stack

CHECKS: tuple[Callable[[MailView], Iterator[Finding]], ...] = tuple(
    rule for room in (dns, spf, dkim, dmarc, mta_sts, tls_reports, path, relay, secrets, quota) for rule in room.RULES
)

__all__ = ["CHECKS", "Finding", "MailView", "Resolver", "Severity", "check"]


def check(stack: "Stack", *, resolver: Resolver | None = None, plan: "Plan | None" = None, facts: Facts = NO_FACTS) -> tuple[Finding, ...]:
    """Give what the rules find and nobody waived, the worst first.

    They look at the wish by itself, or at it beside what ``plan`` would do; ``facts`` is what may be told of the secrets that are there.
    """
    view = MailView.of(stack, resolver, plan, facts)
    if not view.about_mail:
        return ()
    found = {one for rule in CHECKS for one in rule(view)}
    return tuple(sorted(one for one in found if one.rule not in stack.graph.resources[one.resource].policy.waive))
