"""Watches: the events after a version, or the present state and then what comes, one line each."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from starlette.requests import Request as HttpRequest

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.listing import check_match
from reconciler_k8s.emulator.selectors import Match
from reconciler_k8s.emulator.statuses import ApiError
from reconciler_k8s.emulator.store import Event, Store
from reconciler_k8s.emulator.versions import served
from reconciler_k8s.emulator.wire import PARTIAL, PARTIAL_LIST, Target, bookmark, line, partial_of, selecting, sort_for

LASTS = 300.0
"""Seconds of the cluster after which a watch ends when it does not say."""
LOOK = 0.01
"""Seconds between two looks at the events."""


@dataclass(slots=True)
class Watch:
    """One open watch. ``seen`` is the version up to which it has told everything."""

    store: Store
    target: Target
    matches: Match
    partial: bool
    bookmarks: bool
    initial: bool
    from_now: bool
    seen: int
    seconds: float

    @classmethod
    def of(cls, store: Store, target: Target, request: HttpRequest) -> "Watch":
        """Read what is asked for. Raises ApiError."""
        query, accept = request.query_params, request.headers.get("accept", "")
        text = query.get("resourceVersion") or "0"
        if not text.isdigit():
            why = f'strconv.ParseUint: parsing "{text}": invalid syntax'
            raise ApiError(500, f'resourceVersion: Invalid value: "{text}": {why}')
        check_match(query, watch=True)
        return cls(
            store=store,
            target=target,
            # a client that wants lists is told nothing: an event holds no list
            matches=(lambda whole: False) if PARTIAL_LIST in accept else selecting(query),
            partial=PARTIAL in accept,
            bookmarks=query.get("allowWatchBookmarks") in ("true", "1"),
            initial=query.get("sendInitialEvents") in ("true", "1"),
            from_now=int(text) == 0,
            seen=int(text),
            seconds=float(query.get("timeoutSeconds") or LASTS) / store.pace,
        )

    async def lines(self, stopping: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Tell the events as they come, until the time is over."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.seconds
        if not self.from_now and not self.initial and self.seen < self.store.oldest:
            message = f"too old resource version: {self.seen} ({self.store.oldest})"
            yield line("ERROR", ApiError(410, message, "Expired").body)
            return
        for one in self._present():
            yield one
        while clock() < deadline and not stopping():
            for one in self._news():
                yield one
            await asyncio.sleep(LOOK)
        if self.bookmarks:
            yield line("BOOKMARK", bookmark(self.target.kind, self.seen, partial=self.partial, ends=False))

    def _present(self) -> Iterator[bytes]:
        if not self.from_now and not self.initial:
            return
        with self.store.lock:
            self.seen = self.store.version
            there = [one for one in self.store.all(self.target.kind.key, self.target.namespace) if self.matches(one)]
        for one in there:
            yield line("ADDED", self._shown(one))
        if self.initial:
            yield line("BOOKMARK", bookmark(self.target.kind, self.seen, partial=self.partial, ends=True))

    def _news(self) -> Iterator[bytes]:
        with self.store.lock:
            fresh = self.store.since(self.target.kind.key, self.seen) if self.store.version > self.seen else []
            self.seen = max(self.seen, self.store.version)
        for event in fresh:
            if not self.target.namespace or event.whole["metadata"].get("namespace") == self.target.namespace:
                yield from self._told(event)

    def _told(self, event: Event) -> Iterator[bytes]:
        sort = sort_for(event.sort, event.before is not None and self.matches(event.before), self.matches(event.whole))
        whole = event.whole
        if sort == "DELETED" and event.sort != "DELETED" and event.before is not None:
            # it lives on, but not for this watch, which is told of the object as it last saw it
            whole = {**event.before, "metadata": {**event.before["metadata"], "resourceVersion": str(event.version)}}
        if sort:
            yield line(sort, self._shown(whole))

    def _shown(self, whole: JSONObject) -> JSONObject:
        whole = served(whole, self.target.kind)
        return partial_of(whole) if self.partial else whole
