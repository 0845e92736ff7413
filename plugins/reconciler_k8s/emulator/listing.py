"""Lists: by selector, in consistent pages, at an older version, as objects, as metadata alone or as a table."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.statuses import ApiError, Cause, bad_request, forbidden_field, unprocessable, unsupported
from reconciler_k8s.emulator.store import Store
from reconciler_k8s.emulator.tables import table
from reconciler_k8s.emulator.versions import served
from reconciler_k8s.emulator.wire import TABLE, Target, answer, continued, item_key, listed, selecting, token

PATIENCE = 3.0
"""Seconds of the cluster for which a list waits for a version that is yet to come."""
EXACTLY = "Exact"
NOT_OLDER = "NotOlderThan"


def check_match(query: Mapping[str, str], *, watch: bool) -> None:
    """Check how versions are asked for. Raises ApiError with 422."""
    match, causes, field = query.get("resourceVersionMatch", ""), list[Cause](), "resourceVersionMatch"
    if watch and query.get("sendInitialEvents"):
        why = f"sendInitialEvents requires setting resourceVersionMatch to {NOT_OLDER}"
        causes += [] if match == NOT_OLDER else [forbidden_field(field, why)]
    elif watch and match:
        causes.append(forbidden_field(field, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
    elif match and not query.get("resourceVersion"):
        causes.append(forbidden_field(field, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
    elif match and query.get("continue"):
        causes.append(forbidden_field(field, "resourceVersionMatch is forbidden when continue is provided"))
    elif match not in ("", EXACTLY, NOT_OLDER):
        causes.append(unsupported(field, match, (EXACTLY, NOT_OLDER, "")))
    elif match == EXACTLY and query.get("resourceVersion") == "0":
        causes.append(forbidden_field(field, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if causes:
        raise unprocessable("ListOptions", "meta.k8s.io", "", causes)


def check_list(query: Mapping[str, str]) -> None:
    """Check the query of a list. Raises ApiError."""
    wanted, limit = query.get("resourceVersion") or "", query.get("limit") or "0"
    try:
        int(limit)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{limit}": invalid syntax') from None
    if wanted and not wanted.isdigit():
        why = f'Invalid value: "{wanted}": strconv.ParseUint: parsing "{wanted}": invalid syntax'
        raise bad_request(f"invalid resource version: resourceVersion: {why}")
    check_match(query, watch=False)


async def wait_for_version(query: Mapping[str, str], store: Store) -> None:
    """Wait until the version that a list asks for is there. Raises ApiError with 504 when it does not come."""
    text = query.get("resourceVersion") or "0"
    wanted = int(text) if text.isdigit() and not query.get("continue") else 0
    until = asyncio.get_running_loop().time() + PATIENCE / store.pace
    while store.version < wanted:
        if asyncio.get_running_loop().time() > until:
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            error = ApiError(
                504, f"Timeout: Too large resource version: {wanted}, current: {store.version}", "Timeout", {"causes": [cause]}
            )
            error.body["details"]["retryAfterSeconds"] = 1
            raise error
        await asyncio.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: its objects, the version they are of, and what is left after them."""

    items: list[JSONObject]
    version: int
    rest: int


def list_objects(store: Store, target: Target, request: HttpRequest, *, truncated: bool) -> Response:
    """Answer a list; ``truncated`` makes it break off after its first object."""
    query = request.query_params
    check_list(query)
    page = _page(store, target, query, truncated=truncated)
    metadata: JSONObject = {"resourceVersion": str(page.version)}
    if page.rest:
        metadata["continue"] = token(page.version, item_key(page.items[-1], target.namespace) + "\0")
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            metadata["remainingItemCount"] = page.rest
    items = [served(one, target.kind) for one in page.items]
    if TABLE in request.headers.get("accept", ""):
        return answer(table(target.kind, metadata, items, store.age, query.get("includeObject", "Metadata")))
    return listed(target.kind, metadata, items, request)


def _page(store: Store, target: Target, query: Mapping[str, str], *, truncated: bool) -> Page:
    matches, start, version = selecting(query), "", store.version
    if query.get("continue"):
        at, start = continued(query["continue"], -1 if truncated else store.bygone)
        version = store.version if at < 0 else at
    elif query.get("resourceVersionMatch") == EXACTLY:
        version = int(query["resourceVersion"])
        if version <= store.bygone:
            raise ApiError(410, "The resourceVersion for the provided list is too old.", "Expired")
    found = store.at(target.kind.key, target.namespace, version)
    found = [one for one in found if item_key(one, target.namespace) >= start] if start else found
    limit = 1 if truncated else int(query.get("limit") or 0)
    items = list[JSONObject]()
    for number, one in enumerate(found):
        if limit and len(items) == limit:
            return Page(items, version, len(found) - number)
        if matches(one):
            items.append(one)
    return Page(items, version, 0)
