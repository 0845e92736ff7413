"""How much one stranger may ask for, and what was seen before. Small, bounded, and for one thread alone; time comes in as a value."""

import ipaddress
from collections import OrderedDict

PEOPLE = 10_000
"""Most addresses or ids that are remembered; the oldest are forgotten first, so that a flood of new ones costs no memory."""


MOST, PACE = 30, 2.0
"""After so many refusals an address must wait; one is forgiven in so many seconds."""


class Strikes:
    """Counts what was refused, by address."""

    def __init__(self) -> None:
        """Start with nobody known."""
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str, now: float) -> float:
        """Give the seconds that ``address`` must wait before it is heard again; 0 when it may speak."""
        left = self._left(origin(address), now)
        return 0.0 if left <= MOST - 1 else (left - MOST + 1) * PACE

    def strike(self, address: str, now: float) -> None:
        """Remember one refusal."""
        key = origin(address)
        self._known[key] = (self._left(key, now) + 1, now)
        self._known.move_to_end(key)
        if len(self._known) > PEOPLE:
            self._known.popitem(last=False)

    def _left(self, key: str, now: float) -> float:
        count, at = self._known.get(key, (0.0, now))
        return max(0.0, count - (now - at) / PACE)


def origin(address: str) -> str:
    """Give what stands for one stranger: an IPv4 address, or the /64 that every home has of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{found}/64", strict=False)) if found.version == 6 else str(found)


class Seen:
    """Remembers ids for ``seconds``, so that what comes twice counts once."""

    def __init__(self, seconds: float = 86_400.0) -> None:
        """Start with nothing seen."""
        self._seconds = seconds
        self._known: OrderedDict[str, float] = OrderedDict()

    def again(self, id: str, now: float) -> bool:
        """Say whether ``id`` was seen within the time, and remember it."""
        before = self._known.get(id)
        if before is not None and now - before < self._seconds:
            return True
        self._known[id] = now
        self._known.move_to_end(id)
        if len(self._known) > PEOPLE:
            self._known.popitem(last=False)
        return False
