"""What is worth saying about wishes beside their differences: rivals in git, strangers in a set, copies of a mark. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from reconciler.resource import Resource, ResourceId
from reconciler_cloudflare.advice import Place, findings
from reconciler_cloudflare.match import Live, Matching, form_wanted, grouped, spec_of
from reconciler_cloudflare.spec import DNSRecord, clash, describe, key_of


def rivals(wanted: Sequence[Resource]) -> dict[ResourceId, str]:
    """Give the wishes that exclude each other, each with the reason to refuse it."""
    by_name: dict[str, list[Resource]] = {}
    for one in wanted:
        by_name.setdefault(spec_of(one).name, []).append(one)
    found = {}
    for group in by_name.values():
        for one in group:
            others = [other for other in group if other is not one and _exclude(one, other)]
            if others:
                found[one.id] = f"{one.id}: {others[0].id} asks for {describe(form_wanted(others[0]))}; one of the two must go"
    return found


def _exclude(one: Resource, other: Resource) -> bool:
    return key_of(form_wanted(one)) == key_of(form_wanted(other)) or clash(spec_of(one).type, spec_of(other).type)


def remarks(wanted: Sequence[Resource], matching: Matching) -> Mapping[ResourceId, tuple[str, ...]]:
    """Give what to tell people about each wish, where there is anything."""
    strangers = matching.strangers
    near = grouped(strangers, lambda live: (live.zone, *live.place))
    advice: dict[Place, list[str]] = {}
    for about, text in findings([form_wanted(one) for one in wanted] + [live.form for live in strangers]):
        advice.setdefault(about, []).append(text)
    found = {}
    for one in wanted if strangers or advice or matching.orphans else ():
        spec = spec_of(one)
        copies = [f"{describe(copy.form)} (id {copy.id}) carries a copy of its mark" for copy in matching.orphans.get(one.id, ())]
        strange = _strangers(spec, near.get((spec.zone, spec.type, spec.name), ()))
        notes = (*strange, *copies, *dict.fromkeys(advice.get((spec.type, spec.name), ())))
        if notes:
            found[one.id] = notes
    return found


def _strangers(spec: DNSRecord, strangers: Sequence[Live]) -> Iterator[str]:
    """Name what stands in a set that a wish claims for this stack alone, and exchanges of Email Routing beside any of ours."""
    for live in strangers:
        if live.locked and spec.type == "MX":
            yield f"Cloudflare's Email Routing is switched on: {describe(live.form)} takes mail away from ours; switch it off"
        elif spec.exclusive:
            yield f"foreign record in an exclusive set: {describe(live.form)} (id {live.id}); it is not ours to delete"
