"""The ``${...}`` in desired state: where it is, what it refers to, and what it means.

Edges are found without evaluating: the arguments of ``ref``, ``status``, ``vault`` and ``file`` must be literal strings. Evaluation is
CEL, and is asked for only when an expression is more than a plain path below ``vars``. No I/O.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from reconciler import cel
from reconciler.errors import ReconcilerError
from reconciler.resource import ResourceId, SecretRef

MISSING = object()
QUOTED = 200
"""So much of an expression, and of what is wrong with it, is shown."""
_CALL = re.compile(r"\b(ref|status|vault|file)\s*\(")
_STRING = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*""")
_PATH = re.compile(r"vars(?:\.[A-Za-z_]\w*)+\Z")
_FAILED = re.compile(
    r"Function '\w+' error: Python function call failed: \w+: (.*?)(?:\. Check function arguments and their types\.)?", re.DOTALL
)
_VARIABLE = re.compile(r"\bvars\.([A-Za-z_]\w*)")
_ARGUMENTS = {"ref": 1, "status": 1, "vault": 2, "file": 1}


class ExpressionError(ReconcilerError):
    """An expression cannot be read or evaluated. The message never carries a secret."""


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression and what it refers to."""

    source: str
    refs: tuple[ResourceId, ...] = ()
    statuses: tuple[ResourceId, ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Environment:
    """What expressions may use. A function that is None must not be called by the expressions evaluated here."""

    variables: Mapping[str, Any]
    ref: Callable[[str], Any] | None = None
    status: Callable[[str], Any] | None = None
    vault: Callable[[str, str], str] | None = None
    file: Callable[[str], str] | None = None
    _context: list[Any] = field(default_factory=list, compare=False, repr=False)


@lru_cache(maxsize=50_000)
def parse(text: str) -> tuple[str | Expression, ...]:
    """Split a template into literal texts and expressions; ``$${`` stands for a literal ``${``. Raises ExpressionError."""
    parts: list[str | Expression] = []
    literal, position = "", 0
    while (start := text.find("${", position)) >= 0:
        if start > 0 and text[start - 1] == "$":
            literal += text[position : start - 1] + "${"
            position = start + 2
            continue
        literal += text[position:start]
        end = _closing(text, start + 2)
        if literal:
            parts.append(literal)
        parts.append(_analyse(text[start + 2 : end].strip()))
        literal, position = "", end + 1
    literal += text[position:]
    return (*parts, literal) if literal or not parts else tuple(parts)


def _closing(text: str, position: int) -> int:
    depth, start = 0, position
    while position < len(text):
        character = text[position]
        if character in "\"'":
            match = _STRING.match(text, position)
            if match is None:
                break
            position = match.end(1)
            continue
        if character == "}" and depth == 0:
            return position
        depth += (character == "{") - (character == "}")
        position += 1
    raise ExpressionError(f"${{{text[start : start + 30]}... is not closed; write $${{ for a literal ${{")


def _analyse(source: str) -> Expression:
    found: dict[str, list[tuple[str, ...]]] = {name: [] for name in _ARGUMENTS}
    for match in _CALL.finditer(_without_strings(source)):
        found[match[1]].append(_literals(source, match.end(), match[1]))
    try:
        refs = tuple(ResourceId.parse(one) for (one,) in found["ref"])
        statuses = tuple(ResourceId.parse(one) for (one,) in found["status"])
    except ValueError as error:
        raise ExpressionError(str(error)) from None
    secrets = tuple((path, key) for path, key in found["vault"])
    return Expression(source, refs, statuses, secrets, tuple(one for (one,) in found["file"]))


def _without_strings(source: str) -> str:
    return re.sub(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", lambda match: '"' * len(match[0]), source)


def _literals(source: str, position: int, name: str) -> tuple[str, ...]:
    values: list[str] = []
    for _ in range(_ARGUMENTS[name]):
        match = _STRING.match(source, position)
        if match is None:
            raise ExpressionError(f"the arguments of {name}() must be literal strings, so that its edges are known before it is evaluated")
        values.append(json.loads(f'"{match[1][1:-1]}"') if match[1][0] == '"' else match[1][1:-1])
        position = match.end() + 1
    if source[position - 1 : position] != ")":
        raise ExpressionError(f"{name}() takes {_ARGUMENTS[name]} literal string(s)")
    return tuple(values)


def render(text: str, environment: Environment) -> Any:
    """Give what a template means: the value itself for a lone expression, text otherwise, a SecretRef where a secret is involved."""
    parts = parse(text)
    if any(isinstance(part, Expression) and part.secrets for part in parts):
        return _reference(parts, environment)
    if len(parts) == 1:
        return evaluate(parts[0], environment) if isinstance(parts[0], Expression) else parts[0]
    return "".join(part if isinstance(part, str) else _as_text(evaluate(part, environment), part.source) for part in parts)


def partial(text: str, environment: Environment) -> str:
    """Evaluate the parts of a template that need no ``status``, and give a template in which only the others are left."""
    template = ""
    for part in parse(text):
        if isinstance(part, Expression) and part.secrets:
            raise ExpressionError(f"${{{part.source}}} stands in one text with status(), which cannot be told apart in time; split it")
        if isinstance(part, Expression) and part.statuses:
            if part.refs or part.files:
                raise ExpressionError(
                    f"${{{part.source}}} mixes status() with ref() or file(), which cannot be told apart in time; split it"
                )
            template += f"${{{part.source}}}"
        else:
            value = part if isinstance(part, str) else _as_text(evaluate(part, environment), part.source)
            template += value.replace("${", "$${")
    return template


def _as_text(value: Any, source: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ExpressionError(f"${{{source}}} is {type(value).__name__}, which cannot stand inside a text")


def _reference(parts: tuple[str | Expression, ...], environment: Environment) -> SecretRef:
    """Evaluate everything but the secret parts now, so that the reference is complete in itself."""
    template, inputs, scope = "", list[tuple[str, str]](), dict[str, Any]()
    for part in parts:
        if isinstance(part, str) or not part.secrets:
            text = part if isinstance(part, str) else _as_text(evaluate(part, environment), part.source)
            template += text.replace("${", "$${")
            continue
        template += f"${{{part.source}}}"
        inputs += [pair for pair in part.secrets if pair not in inputs]
        names = _VARIABLE.findall(part.source)
        scope.setdefault("vars", {}).update({name: environment.variables[name] for name in names if name in environment.variables})
        if part.refs and environment.ref is not None:
            scope.setdefault("refs", {}).update({str(id): environment.ref(str(id)) for id in part.refs})
    return SecretRef(template, tuple(inputs), json.dumps(scope, sort_keys=True))


def evaluate(expression: Expression, environment: Environment) -> Any:
    """Evaluate one expression. Raises ExpressionError with the expression in its message; with secrets, without any detail."""
    if _PATH.match(expression.source):
        value = _look_up(expression.source, environment.variables)
        if value is not MISSING:
            return value
        raise ExpressionError(f"{expression.source} is not declared under vars in stack.yaml")
    if not environment._context:
        environment._context.append(_context(environment))
    try:
        return cel.compiled(expression.source).execute(environment._context[0])
    except (ValueError, LookupError, ArithmeticError, RuntimeError, TypeError) as error:
        if expression.secrets:
            raise ExpressionError(f"${{{expression.source}}} could not be evaluated with the secret's present value") from None
        raise ExpressionError(_explain(expression.source, error)) from None


def _look_up(source: str, variables: Mapping[str, Any]) -> Any:
    value: Any = {"vars": variables}
    for name in source.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return MISSING
        value = value[name]
    return value


def _explain(source: str, error: Exception) -> str:
    text = str(error.args[0] if error.args else error)
    failed = _FAILED.fullmatch(text)
    text = (failed[1] if failed else text).splitlines()[0]
    if isinstance(error, KeyError):
        text = f"there is no field {text!r}"
    text = text.removeprefix(f"Failed to parse expression '{source}': ")[:QUOTED]
    if "Undefined variable" in text or re.fullmatch(r"[A-Za-z_]\w*", source):
        return f"${{{source}}} names nothing known; write $${{{source}}} if the text itself is meant"
    return f"${{{source if len(source) <= QUOTED else source[:QUOTED] + '...'}}}: {text}"


def _context(environment: Environment) -> Any:
    functions: dict[str, Callable[..., Any]] = {
        "base64": to_base64,
        "jsonField": json_field,
        "dovecotAccounts": dovecot_accounts,
        "mtaStsId": mta_sts_id,
    }
    given = {"ref": environment.ref, "status": environment.status, "vault": environment.vault, "file": environment.file}
    functions.update({name: function for name, function in given.items() if function is not None})
    return cel.context({"vars": dict(environment.variables)}, functions)


def complete(ref: SecretRef, vault: Callable[[str, str], str]) -> str:
    """Give the text that ``ref`` stands for. ``vault`` gives the value of ``(path, key)``. Raises ExpressionError without any detail."""
    scope = json.loads(ref.scope)
    environment = Environment(scope.get("vars", {}), ref=lambda name: scope["refs"][name], vault=vault)
    parts = parse(ref.template)
    return "".join(part if isinstance(part, str) else _as_text(evaluate(part, environment), part.source) for part in parts)


# -- functions that expressions may call --------------------------------------------------------------------------------------


def to_base64(text: str) -> str:
    """Encode UTF-8 text as base64."""
    return base64.b64encode(text.encode()).decode()


def json_field(text: str, name: str) -> str:
    """Give one field of a JSON object as text. Raises ValueError without quoting the content."""
    try:
        value = json.loads(text)[name]
    except (ValueError, KeyError, TypeError):
        raise ValueError("the secret is not a JSON object with the field asked for") from None
    return value if isinstance(value, str) else json.dumps(value)


def mta_sts_id(text: str) -> str:
    """Give the id that an MTA-STS policy is announced by (RFC 8461 3.1): 20 hex digits that change if and only if the policy does.

    The order of its lines, their ends and the blanks in them say nothing. Raises ValueError for a text that is no policy.
    """
    pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
    said = sorted({(key.strip(), value.strip().lower()) for key, _, value in pairs})
    if ("version", "stsv1") not in said:
        raise ValueError("the text is no MTA-STS policy, which has a line version: STSv1")
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:20]


def dovecot_accounts(text: str) -> str:
    """Turn a JSON object of address -> password into lines of ``postfix-accounts.cf``.

    A password that already is a hash (``{SCHEME}...``) is kept as it is. The bcrypt salt is derived from the address, so that a line
    changes if and only if its password does.
    """
    import bcrypt  # only at the write of an account

    try:
        accounts = json.loads(text)
        pairs = sorted((str(address), str(password)) for address, password in accounts.items())
    except (ValueError, AttributeError):
        raise ValueError("the accounts secret is not a JSON object of address to password") from None
    lines = []
    for address, password in pairs:
        if not re.match(r"\{[A-Z0-9.-]+\}", password):
            salt = b"$2b$10$" + _bcrypt_base64(hashlib.sha256(b"dovecot:" + address.encode()).digest()[:16])
            password = "{BLF-CRYPT}" + bcrypt.hashpw(password.encode()[:72], salt).decode()
        lines.append(f"{address}|{password}\n")
    return "".join(lines)


def _bcrypt_base64(raw: bytes) -> bytes:
    standard = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    ours = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return base64.b64encode(raw).rstrip(b"=").translate(bytes.maketrans(standard, ours))
