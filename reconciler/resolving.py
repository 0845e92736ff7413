"""A document whose expressions are all filled in -> its spec; also later, when a status that was asked for has been seen. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from pydantic import ValidationError

from reconciler.expressions import Environment, ExpressionError
from reconciler.invalid import explain
from reconciler.registry import Catalog
from reconciler.resource import JSONObject, Resource, ResourceId, Spec
from reconciler.stack import Unresolved
from reconciler.templates import evaluated


def resolve(resource: Resource, catalog: Catalog, statuses: Mapping[ResourceId, JSONObject]) -> Resource:
    """Close an Unresolved spec with what was observed. Raises KeyError for a status that is not there yet, ValueError for a bad value."""
    assert isinstance(resource.spec, Unresolved)
    missing = [str(id) for id in resource.spec.statuses if id not in statuses]
    if missing:
        raise KeyError(f"needs the status of {missing[0]}, which does not exist yet")
    environment = Environment(resource.spec.variables, status=lambda name: statuses[ResourceId.parse(name)])
    document = resource.spec.document
    _, kind = catalog.find(document["apiVersion"], document["kind"])
    try:
        data = evaluated(document, environment)
        spec = build_spec(kind, data, resource.id)
    except ExpressionError as error:
        raise KeyError(f"needs a status that is not there yet: {error}") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(str(part) for part in path)}: {message}" for path, message in explain(error, kind))
        raise ValueError(f"what status() gives does not fit: {wrong}") from None
    return replace(resource, spec=spec, digest="")


def build_spec(kind: type[Spec], data: JSONObject, id: ResourceId) -> Spec:
    """Build the spec of a whole document. Raises ValidationError, or ValueError when the document names something else."""
    name, spec = kind.from_document(data)
    if name != id.name:
        raise ValueError(f"its name reads as {name!r}")
    return spec
