"""The wire's small change: media types, selectors, pages, tokens, and the checks of queries and bodies."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.kinds import Kind
from reconciler_k8s.emulator.selectors import SelectorError, matcher
from reconciler_k8s.emulator.statuses import ApiError, bad_request, required, too_long, unprocessable, unsupported
from reconciler_k8s.emulator.versions import served

DISCOVERY = "as=APIGroupDiscoveryList"
PARTIAL, PARTIAL_LIST, TABLE = "as=PartialObjectMetadata;", "as=PartialObjectMetadataList;", "as=Table;"
VERSION = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "2026-08-21T00:00:00Z",
    "goVersion": "go1.26.6",
    "compiler": "gc",
    "platform": "linux/amd64",
}
REGISTERED = "the body of the request was in an unknown format - accepted media types include: "


@dataclass(slots=True)
class Target:
    """What a path names."""

    kind: Kind
    namespace: str
    name: str
    sub: str


def parsed(body: bytes) -> Any:
    """Read JSON or YAML. Raises yaml.YAMLError or ValueError."""
    if body.startswith(b"{"):
        return json.loads(body)
    return json.loads(json.dumps(yaml.load(body, Loader=yaml.CSafeLoader), default=str))


def answer(body: Any, code: int = 200) -> Response:
    """Answer with JSON."""
    return Response(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(), code, media_type="application/json")


def plain(text: str, code: int = 200) -> Response:
    """Answer with text."""
    return Response(text, code, media_type="text/plain; charset=utf-8")


def line(sort: str, whole: JSONObject) -> bytes:
    """Write one watch event."""
    return json.dumps({"type": sort, "object": whole}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def sort_for(sort: str, before: bool, after: bool) -> str:
    """Say what a selecting watch sees of a change; empty for nothing."""
    if sort == "DELETED":
        return "DELETED" if before or after else ""
    if after:
        return "MODIFIED" if before else "ADDED"
    return "DELETED" if before else ""


def bookmark(kind: Kind, version: int, *, partial: bool, ends: bool) -> JSONObject:
    """Make a bookmark; the one that ends the initial events says so."""
    metadata: JSONObject = {"resourceVersion": str(version)}
    if ends:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    if partial:
        return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    return {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata}


def partial_of(whole: JSONObject) -> JSONObject:
    """Give the metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": whole["metadata"]}


def shown(whole: JSONObject, kind: Kind, request: HttpRequest) -> JSONObject:
    """Give an object in the form that Accept asks for."""
    accept = request.headers.get("accept", "")
    whole = served(whole, kind)
    return partial_of(whole) if PARTIAL in accept and whole.get("kind") not in ("Status",) else whole


def listed(kind: Kind, metadata: JSONObject, items: list[JSONObject], request: HttpRequest) -> Response:
    """Answer with a list."""
    accept = request.headers.get("accept", "")
    if PARTIAL_LIST in accept:
        found = [partial_of(one) for one in items]
        return answer({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": found or None})
    if kind.custom:
        metadata = {"continue": "", **metadata}
    else:
        items = [{key: value for key, value in one.items() if key not in ("kind", "apiVersion")} for one in items]
    return answer({"kind": kind.list_kind or f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items})


def check_accept(request: HttpRequest, target: Target) -> None:
    """Refuse a media type that is not spoken here."""
    accept = request.headers.get("accept", "*/*")
    if target.name and PARTIAL_LIST in accept:
        why = f"you requested PartialObjectMetadataList, but the requested object is not a list (*core.{target.kind.name})"
        raise ApiError(406, why, "NotAcceptable")
    if not any(part.strip().startswith(("application/json", "*/*", "application/*")) for part in accept.split(",")):
        types = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
        raise ApiError(406, f"406: Not Acceptable\n\nAvailable representations: {types}", "NotAcceptable", {})


def check_options(verb: str, query: Mapping[str, str], content_type: str) -> None:
    """Check the query of a write."""
    names = {"PATCH": "PatchOptions", "PUT": "UpdateOptions", "POST": "CreateOptions", "DELETE": "DeleteOptions"}
    causes = []
    sort = content_type.partition(";")[0]
    if verb == "PATCH" and sort not in PATCH_TYPES:
        raise ApiError(415, "415: Unsupported Media Type", "UnsupportedMediaType", {})
    manager = query.get("fieldManager", "")
    if verb == "PATCH" and "apply-patch" in content_type and not manager:
        causes.append(required("fieldManager", "is required for apply patch"))
    if len(manager.encode()) > 128:
        causes.append(too_long("fieldManager", "may not be more than 128 bytes"))
    if verb == "PATCH" and "apply-patch" not in content_type and query.get("force"):
        causes.append(("FieldValueForbidden", "Forbidden: may not be specified for non-apply patch", "force"))
    if query.get("dryRun") not in (None, "", "All"):
        reason, _, field = unsupported("dryRun", "", ("All",))
        causes.append((reason, f'Unsupported value: ["{query["dryRun"]}"]: supported values: "All"', field))
    if causes:
        error = unprocessable(names[verb], "meta.k8s.io", "", causes)
        raise error


PATCH_TYPES = frozenset(
    {
        "application/apply-patch+yaml",
        "application/merge-patch+json",
        "application/json-patch+json",
        "application/strategic-merge-patch+json",
    }
)


def check_body(config: Any, target: Target) -> None:
    """Check that an applied body is the object that the path names."""
    config = config if isinstance(config, dict) else {}
    group, _, version = str(config.get("apiVersion") or "/").rpartition("/") if config.get("apiVersion") else ("", "", "")
    kind = config.get("kind") or ""
    if (group, version, kind) != (target.kind.group, target.kind.version, target.kind.name):
        raise bad_request(f"invalid object type: {group}/{version}, Kind={kind}")
    metadata = config.setdefault("metadata", {}) or {}
    config["metadata"] = metadata
    name = metadata.get("name")
    if not name:
        raise bad_request(f"the name of the object ({target.name} based on URL) was undeterminable: name must be provided")
    if name != target.name:
        raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({target.name})")
    if metadata.get("namespace", target.namespace) != target.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if metadata.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")


def decoded(body: bytes, target: Target) -> JSONObject:
    """Read the body of a POST or PUT."""
    try:
        new: Any = json.loads(body)
    except ValueError:
        why = f"couldn't get version/kind; json parse error: unexpected end of JSON input ({body.decode()})"
        raise bad_request(f"the object provided is unrecognized (must be of type {target.kind.name}): {why}") from None
    if not isinstance(new, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {target.kind.name})")
    new["metadata"] = new.get("metadata") or {}
    if target.name and new["metadata"].setdefault("name", target.name) != target.name:
        raise bad_request(f"the name of the object ({new['metadata']['name']}) does not match the name on the URL ({target.name})")
    if target.kind.namespaced and new["metadata"].setdefault("namespace", target.namespace) != target.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    return new


def scale_of(whole: JSONObject) -> JSONObject:
    """Give the Scale of a workload."""
    metadata = {key: whole["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    labels = (whole["spec"].get("selector") or {}).get("matchLabels") or {}
    status = {
        "replicas": (whole.get("status") or {}).get("replicas", 0),
        "selector": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
    }
    spec = {"replicas": whole["spec"].get("replicas", 1)}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}


def check_name(new: JSONObject, target: Target) -> None:
    """Refuse a patch that renames."""
    if new["metadata"].get("name") != target.name:
        raise bad_request(f"the name of the object ({new['metadata'].get('name')}) does not match the name on the URL ({target.name})")


def selecting(query: Mapping[str, str]) -> Any:
    """Make the filter of a list or watch."""
    try:
        return matcher(query.get("labelSelector", ""), query.get("fieldSelector", ""))
    except SelectorError as error:
        raise bad_request(str(error)) from None


def item_key(one: JSONObject, namespace: str) -> str:
    """Give the place of an object in the listing's order, as a continue token holds it."""
    metadata = one["metadata"]
    return f"/{metadata['name']}" if namespace or not metadata.get("namespace") else f"/{metadata['namespace']}/{metadata['name']}"


def token(version: int, start: str) -> str:
    """Make a continue token."""
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": start}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue "
    "parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token "
    "results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and "
    "now may show up in the list."
)


def continued(text: str, oldest: int) -> tuple[int, str]:
    """Read a continue token: its version, -1 for whatever there is now, and where to go on.

    Raises ApiError when it is none, or of a version up to ``oldest`` (-1 for all); then the answer holds one that goes on regardless.
    """
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        found = json.loads(raw)
        version, start = int(found["rv"]), str(found["start"])
    except (ValueError, KeyError, TypeError):
        why = "invalid character '\\u009e' looking for beginning of value"
        raise bad_request(f"invalid continue token: continue key is not valid: {why}") from None
    if oldest < 0 or 0 <= version <= oldest:
        error = ApiError(410, EXPIRED, "Expired")
        error.body["metadata"] = {"continue": token(-1, start.lstrip("/"))}
        raise error
    return version, start if start.startswith("/") else f"/{start}"
