"""Go's decoding of a body that is not applied: unknown fields are dropped, wrong types refused."""

from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.kinds import Kind
from reconciler_k8s.emulator.merging import SchemaError, check
from reconciler_k8s.emulator.shapes import Shape
from reconciler_k8s.emulator.statuses import ApiError, bad_request, invalid, unprocessable


def pruned(value: Any, shape: Shape, path: str, dropped: list[str]) -> Any:
    """Give a value without the fields that its type does not know; their paths go to ``dropped``."""
    if isinstance(value, dict) and shape.sort in ("struct", "map"):
        result = {}
        for key, item in value.items():
            below = shape.child(key)
            if below is None:
                dropped.append(f"{path}{key}")
            else:
                result[key] = pruned(item, below, f"{path}{key}.", dropped)
        return result
    if isinstance(value, list) and shape.sort == "list":
        return [pruned(item, shape.items, path, dropped) for item in value]
    return value


def decode_body(kind: Kind, body: JSONObject, *, strict: bool, patch: bool) -> JSONObject:
    """Take the body of a POST, a PUT or the result of a patch. Raises ApiError for what Go would not decode."""
    dropped: list[str] = []
    result: JSONObject = pruned(body, kind.shape, "", dropped)
    if dropped and strict:
        raise _refused(kind, f'strict decoding error: unknown field "{dropped[0]}"', patch=patch)
    if not kind.custom:
        try:
            check(result, kind.shape)
        except SchemaError as error:
            raise _refused(kind, _unmarshal(kind, str(error)), patch=patch) from None
    return result


def _unmarshal(kind: Kind, error: str) -> str:
    path, _, rest = error.partition(": ")
    field = path.split(".")[1].partition("[")[0]
    got = "bool" if "Value:true" in rest or "Value:false" in rest else "number" if "valueUnstructured" in rest else "object"
    return f"json: cannot unmarshal {got} into Go struct field {kind.name}.{field} of type string"


def _refused(kind: Kind, why: str, *, patch: bool) -> ApiError:
    if patch:
        return unprocessable("", "", "", [invalid("patch", '"{}"', why)])
    return bad_request(f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: {why}')
