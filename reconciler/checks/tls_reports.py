"""Reports of broken TLS (RFC 8460 3): one record, with its version and an address that can be read. Pure."""

from collections.abc import Callable, Iterator

from reconciler.checks import mailbox
from reconciler.checks.findings import Finding, error
from reconciler.checks.tags import addresses, tags
from reconciler.checks.view import MailView


def record(view: MailView) -> Iterator[Finding]:
    """Check each record by itself and that there is one."""
    for name, found in view.texts("_smtp._tls"):
        real = [one for one in found if one.content.startswith("v=TLSRPTv1")]
        for extra in real[1:]:
            yield error("tls-reports", extra.id, f"{name} has {len(real)} records; senders then use none of them")
        for one in found:
            parts = tags(one.content) or {}
            boxes, wrong = addresses(parts.get("rua", ""))
            if one not in real:
                yield error("tls-reports", one.id, "does not begin with v=TLSRPTv1")
            elif wrong:
                yield error("tls-reports", one.id, f"rua={','.join(wrong)} is no mailto: or https: address")
            yield from mailbox.unknown(view, one.id, boxes)


RULES: tuple[Callable[[MailView], Iterator[Finding]], ...] = (record,)
