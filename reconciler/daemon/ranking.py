"""In which order people are told what is not well: what others wait for comes first, and after it what depends on it. Pure."""

from collections.abc import Collection, Iterator, Mapping

from reconciler.driver import Health
from reconciler.report import about
from reconciler.resource import ResourceId


def ranked(
    sick: Mapping[ResourceId, Health],
    above: Mapping[ResourceId, Collection[ResourceId]],
    waiting: Mapping[ResourceId, Collection[ResourceId]],
) -> dict[str, str]:
    """Give a line for each sick resource, by id, the causes first and the one with the widest reach before the others.

    ``above`` names for each what it depends on, directly or not, and is not well either; ``waiting`` names for each what is well and waits
    for it. A cause is what depends on nothing that is sick, too.
    """
    causes = {id: [one for one in above.get(id, ()) if one in sick] for id in sick}
    reach = {id: set(waiting.get(id, ())) for id in sick}
    for id, listed in causes.items():
        for cause in listed:
            reach[cause] |= {id, *waiting.get(id, ())}
    order = sorted(sick, key=lambda one: (-len(reach[one]), one))
    below: dict[ResourceId, list[ResourceId]] = {id: [] for id in order if not causes[id]}
    for id in order:
        for cause in causes[id]:
            if cause in below:
                below[cause].append(id)
    lines: dict[str, str] = {}
    for root, found in below.items():
        lines[str(root)] = f"{root}{_others(len(reach[root]))}: {sick[root].message.removeprefix(f'{root}: ')}"
        lines |= {str(id): because(id, sick[id], root) for id in found if str(id) not in lines}
    return lines


def because(id: ResourceId, health: Health, cause: ResourceId) -> str:
    """Say of a resource what is wrong with it, and what it depends on."""
    return f"{about(id, health.message)}; depends on {cause}"


def _others(count: int) -> str:
    return "" if not count else f" ({count} {'other waits' if count == 1 else 'others wait'} for it)"


def consequences(
    sick: Mapping[ResourceId, Health], above: Mapping[ResourceId, Collection[ResourceId]], causes: Collection[ResourceId]
) -> Iterator[tuple[ResourceId, ResourceId]]:
    """Give each sick resource that depends on one of ``causes``, which were told already, with the first of those."""
    for id in sorted(sick):
        cause = next((one for one in above.get(id, ()) if one in causes), None)
        if cause is not None and id not in causes:
            yield id, cause
