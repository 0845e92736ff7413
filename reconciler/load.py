"""Files of one stack -> typed resources in order. Every problem of the input is reported at once, each with file and line.

Pure after the bytes: it reads no file, asks no system and decides nothing. What an expression needs from a live system (``status``) is
left open in an ``Unresolved`` spec and closed by ``resolve`` once the pass has observed it.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from pydantic import ValidationError

from reconciler.documents import Document, line_of, read
from reconciler.driver import Plugin
from reconciler.errors import InputError, Problem
from reconciler.expressions import Environment, ExpressionError, expressions_in, partial, render
from reconciler.graph import build
from reconciler.plan import Exemption
from reconciler.registry import ANNOTATIONS, OWN_GROUP, Catalog
from reconciler.resource import JSONObject, Origin, Resource, ResourceId, ResourcePolicy, SecretRef, Spec, seal
from reconciler.stack import READERS, STACK_FILE, ExceptionSpec, Stack, StackSpec, Unresolved

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?\Z")


@dataclass(slots=True)
class _Entry:
    """A document on its way to a resource."""

    document: Document
    plugin: Plugin
    spec: type[Spec]
    id: ResourceId
    state: str = "raw"
    data: JSONObject = field(default_factory=dict)
    exports: JSONObject = field(default_factory=dict)


def stack_names(tree: Mapping[str, bytes], below: str = "desired") -> list[str]:
    """List the stacks of a tree: every folder below ``below`` with a ``stack.yaml``."""
    prefix = f"{below}/" if below else ""
    suffix = f"/{STACK_FILE}"
    return sorted(path[len(prefix) : -len(suffix)] for path in tree if path.startswith(prefix) and path.endswith(suffix))


def load_stack(tree: Mapping[str, bytes], folder: str, catalog: Catalog, *, today: date) -> Stack:
    """Load the stack in ``folder`` (e.g. ``desired/mail``). Raises InputError with every problem found."""
    return _Loader(tree, folder.rstrip("/"), catalog, today).load()


class _Loader:
    """Carries the problems of one stack through the stages of loading it."""

    def __init__(self, tree: Mapping[str, bytes], folder: str, catalog: Catalog, today: date) -> None:
        self.tree, self.folder, self.catalog, self.today = tree, folder, catalog, today
        self.name = posixpath.basename(folder)
        self.problems: list[Problem] = []
        self.entries: dict[str, _Entry] = {}
        self.environment = Environment({})

    def load(self) -> Stack:
        """Run the stages: documents, stack, identities, values, order."""
        documents = list(self._documents())
        spec, exceptions = self._stack(documents)
        self._stop_on_problems()
        variables = self._variables(spec.vars)
        self.environment = Environment(variables, ref=self._ref, status=_no_status, vault=None, file=self._file)
        for document in documents:
            self._identify(document)
        resources = [resource for entry in list(self.entries.values()) if (resource := self._resource(entry)) is not None]
        exemptions = tuple(one for document in exceptions if (one := self._exemption(document)) is not None)
        self._stop_on_problems()
        graph = build(resources)
        targets = {one.id: one.policy.target or spec.targets.get(one.id.driver, one.id.driver) for one in resources}
        return Stack(self.name, spec, graph, exemptions, targets)

    def _stop_on_problems(self) -> None:
        if self.problems:
            raise InputError(self.problems)

    def _problem(self, document: Document, path: Sequence[str | int], message: str, resource: str = "") -> None:
        line = line_of(self.tree[document.file], document.index, path) or document.line
        self.problems.append(Problem(document.file, line, message, resource))

    # -- documents and the stack itself --------------------------------------------------------------------------------------

    def _documents(self) -> Iterator[Document]:
        prefix = f"{self.folder}/"
        if f"{prefix}{STACK_FILE}" not in self.tree:
            self.problems.append(Problem(f"{prefix}{STACK_FILE}", 0, "does not exist; every stack has one"))
        for file in sorted(self.tree):
            if file.startswith(prefix) and file.endswith((".yaml", ".yml")):
                documents, problems = read(file, self.tree[file])
                self.problems += problems
                yield from documents

    def _stack(self, documents: list[Document]) -> tuple[StackSpec, list[Document]]:
        own = [one for one in documents if one.data.get("apiVersion") == OWN_GROUP]
        for one in own:
            documents.remove(one)
            if one.data.get("kind") not in ("Stack", "DriftException"):
                self._problem(one, ["kind"], f"{OWN_GROUP} has no kind {one.data.get('kind')!r}; it has DriftException, Stack")
        stacks = [one for one in own if one.data.get("kind") == "Stack"]
        for extra in stacks[1:]:
            self._problem(extra, [], f"a second Stack; the first is at {stacks[0].file}:{stacks[0].line}")
        spec = self._validate(StackSpec, stacks[0]) if stacks else None
        return spec or StackSpec(), [one for one in own if one.data.get("kind") == "DriftException"]

    def _validate(self, model: type[Any], document: Document) -> Any:
        try:
            return model.model_validate(document.data.get("spec") or {})
        except ValidationError as error:
            self._invalid(document, error, ["spec"], "")
            return None

    def _invalid(self, document: Document, error: ValidationError, below: Sequence[str | int], resource: str) -> None:
        for one in error.errors(include_input=False, include_url=False):
            path = [part for part in one["loc"] if not str(part).startswith(("function-", "is-instance", "str", "tagged-"))]
            where = ".".join(str(part) for part in (*below, *path))
            message = one["msg"].removeprefix("Value error, ")
            hint = self._unknown_field(one, path, resource) if one["type"] == "extra_forbidden" else ""
            message = f"is not a field here{hint}" if one["type"] == "extra_forbidden" else message[:1].lower() + message[1:]
            self._problem(document, [*below, *path], f"{where}: {message}" if where else message, resource)

    def _unknown_field(self, error: Any, path: Sequence[Any], resource: str) -> str:
        from difflib import get_close_matches  # only on the way to an error

        entry = self.entries.get(resource)
        if entry is None or len(path) != 1:
            return ""
        close = get_close_matches(str(path[0]), list(entry.spec.model_fields), n=1)
        return f"; did you mean {close[0]}?" if close else ""

    def _variables(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Evaluate the variables, which may use one another."""
        done: dict[str, Any] = {}
        left = dict(raw)
        document = next(iter(read(f"{self.folder}/{STACK_FILE}", self.tree[f"{self.folder}/{STACK_FILE}"])[0]))
        while left:
            ready = [name for name, value in left.items() if not _uses(value) & set(left)]
            if not ready:
                self._problem(document, ["spec", "vars"], "these variables use one another in a circle: " + ", ".join(sorted(left)))
                self._stop_on_problems()
            for name in ready:
                try:
                    done[name] = _evaluate(left.pop(name), Environment(dict(done)))
                except ExpressionError as error:
                    self._problem(document, ["spec", "vars", name], str(error))
                    done[name] = ""
        return done

    # -- identities ----------------------------------------------------------------------------------------------------------

    def _identify(self, document: Document) -> None:
        data = document.data
        api_version, kind, metadata = data.get("apiVersion"), data.get("kind"), data.get("metadata")
        if not isinstance(api_version, str) or not isinstance(kind, str):
            self._problem(document, [], "a document needs apiVersion and kind")
            return
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            self._problem(document, ["metadata"], f"{kind} needs metadata.name")
            return
        try:
            plugin, spec = self.catalog.find(api_version, kind)
        except KeyError as error:
            self._problem(document, ["kind"], str(error.args[0]))
            return
        self._enter(document, plugin, spec, metadata)

    def _enter(self, document: Document, plugin: Plugin, spec: type[Spec], metadata: JSONObject) -> None:
        try:
            name = _evaluate(metadata["name"], self.environment)
            namespace = _evaluate(metadata.get("namespace") or "", self.environment)
        except ExpressionError as error:
            self._problem(document, ["metadata", "name"], str(error))
            return
        if plugin.api_version:
            self._check_envelope(document, name)
        id = ResourceId(plugin.name, document.data["kind"], f"{namespace}/{name}" if namespace and not plugin.api_version else name)
        other = self.entries.get(str(id))
        if other is not None:
            self._problem(document, ["metadata", "name"], f"is declared twice; the other one is at {_at(other.document)}", str(id))
            return
        self.entries[str(id)] = _Entry(document, plugin, spec, id)

    def _check_envelope(self, document: Document, name: str) -> None:
        for key in document.data:
            if key not in ("apiVersion", "kind", "metadata", "spec"):
                self._problem(document, [key], f"{key} is not a field here; a document has apiVersion, kind, metadata and spec")
        for key in document.data["metadata"]:
            if key not in ("name", "annotations", "labels"):
                self._problem(document, ["metadata", key], f"metadata.{key} is not a field here")
        if not _NAME.match(name):
            self._problem(document, ["metadata", "name"], f"{name!r} is not a name; use letters, digits, dots and dashes, at most 128")

    # -- values --------------------------------------------------------------------------------------------------------------

    def _resource(self, entry: _Entry) -> Resource | None:
        data = self._data(entry)
        if data is None:
            return None
        expressions = list(expressions_in(entry.document.data))
        refs = tuple(dict.fromkeys(id for one in expressions for id in (*one.refs, *one.statuses) if id != entry.id))
        policy, needs = self._annotations(entry, data)
        origin = Origin(entry.document.file, entry.document.line)
        statuses = tuple(dict.fromkeys(id for one in expressions for id in one.statuses))
        if statuses:
            open_spec = Unresolved(document=data, statuses=statuses, variables=dict(self.environment.variables))
            return Resource(entry.id, open_spec, needs, refs, policy, origin)
        spec = self._spec(entry, data)
        return Resource(entry.id, spec, needs, refs, policy, origin) if spec is not None else None

    def _data(self, entry: _Entry) -> JSONObject | None:
        """Evaluate the expressions of a document, those it refers to first. None when there is a problem with it."""
        if entry.state == "busy":
            self._problem(entry.document, [], "its ref() expressions lead back to itself", str(entry.id))
            entry.state = "bad"
        if entry.state == "raw":
            entry.state = "busy"
            count = len(self.problems)
            entry.data = _walk(entry.document.data, (), lambda text, path: self._render(entry, text, path))
            entry.state = "bad" if len(self.problems) > count else "done"
        return entry.data if entry.state == "done" else None

    def _render(self, entry: _Entry, text: str, path: tuple[str | int, ...]) -> Any:
        try:
            if any(one.statuses for one in expressions_in(text)):
                return partial(text, self.environment)
            return render(text, self.environment)
        except ExpressionError as error:
            self._problem(entry.document, path, str(error), str(entry.id))
            return text

    def _ref(self, id: str) -> Any:
        """Give the desired document of ``id`` to an expression, without what is secret in it."""
        entry = self.entries.get(id)
        if entry is None:
            raise ValueError(f"{id} is not declared in this stack{self._similar(id)}")
        data = self._data(entry)
        if data is None:
            raise ValueError(f"{id} has problems of its own")
        exports: JSONObject = {}
        if entry.plugin.api_version and (spec := self._spec(entry, data, quiet=True)) is not None:
            data = {**data, "spec": seal(_without_secrets(spec.model_dump(mode="python")), lambda ref: "")}
            exports = spec.exports(entry.id.name)
        return {**_without_secrets(data), **exports}

    def _similar(self, id: str) -> str:
        from difflib import get_close_matches  # only on the way to an error

        close = get_close_matches(id, list(self.entries), n=1)
        return f"; did you mean {close[0]}?" if close else ""

    def _file(self, path: str) -> str:
        """Give the text of a file of this stack to an expression."""
        full = posixpath.normpath(posixpath.join(self.folder, path))
        if not full.startswith(f"{self.folder}/") or path.startswith("/"):
            raise ValueError(f"{path} lies outside the stack")
        if full not in self.tree:
            raise ValueError(f"{full} does not exist")
        return self.tree[full].decode("utf-8", errors="strict")

    def _spec(self, entry: _Entry, data: JSONObject, *, quiet: bool = False) -> Spec | None:
        try:
            return _build_spec(entry.spec, data, entry.id)
        except ValidationError as error:
            if not quiet:
                self._invalid(entry.document, error, ["spec"] if entry.plugin.api_version else [], str(entry.id))
        except ValueError as error:
            if not quiet:
                self._problem(entry.document, [], str(error), str(entry.id))
        return None

    # -- annotations and exceptions ------------------------------------------------------------------------------------------

    def _annotations(self, entry: _Entry, data: JSONObject) -> tuple[ResourcePolicy, tuple[ResourceId, ...]]:
        annotations = data["metadata"].get("annotations") or {}
        own = {str(key)[11:]: value for key, value in annotations.items() if str(key).startswith("reconciler/")}
        known = self.catalog.annotations()
        for name in own:
            if name not in known:
                self._annotation_problem(entry, name, f"is not known; there are {', '.join(known)}")
        values: dict[str, Any] = {}
        for name, value in own.items():
            if name in ANNOTATIONS:
                try:
                    values[name] = READERS[name](value)
                except (ValueError, TypeError) as error:
                    self._annotation_problem(entry, name, str(error))
        needs = values.pop("depends-on", ())
        return ResourcePolicy(**values), needs

    def _annotation_problem(self, entry: _Entry, name: str, message: str) -> None:
        path = ["metadata", "annotations", f"reconciler/{name}"]
        self._problem(entry.document, path, f"annotation reconciler/{name}: {message}", str(entry.id))

    def _exemption(self, document: Document) -> Exemption | None:
        checked = self._validate(ExceptionSpec, replace(document, data=_walk(document.data, (), lambda text, path: self._plain(text))))
        if checked is None:
            return None
        try:
            id = ResourceId.parse(checked.resource)
        except ValueError as error:
            self._problem(document, ["spec", "resource"], str(error))
            return None
        if str(id) not in self.entries:
            self._problem(document, ["spec", "resource"], f"{id} is not declared in this stack{self._similar(str(id))}")
            return None
        return Exemption(id, checked.fields, checked.reason, checked.ticket, checked.expires.isoformat(), checked.expires < self.today)

    def _plain(self, text: str) -> Any:
        return render(text, self.environment)


def resolve(resource: Resource, catalog: Catalog, statuses: Mapping[ResourceId, JSONObject]) -> Resource:
    """Close an Unresolved spec with what was observed. Raises KeyError for a status that is not there yet, ValueError for a bad value."""
    assert isinstance(resource.spec, Unresolved)
    missing = [str(id) for id in resource.spec.statuses if id not in statuses]
    if missing:
        raise KeyError(f"needs the status of {missing[0]}, which does not exist yet")
    environment = Environment(resource.spec.variables, status=lambda name: statuses[ResourceId.parse(name)])
    document = resource.spec.document
    try:
        data = _walk(document, (), lambda text, path: render(text, environment))
        _, kind = catalog.find(document["apiVersion"], document["kind"])
        spec = _build_spec(kind, data, resource.id)
    except ExpressionError as error:
        raise KeyError(f"needs a status that is not there yet: {error}") from None
    return replace(resource, spec=spec, digest="")


def _build_spec(kind: type[Spec], data: JSONObject, id: ResourceId) -> Spec:
    name, spec = kind.from_document(data)
    if name != id.name:
        raise ValueError(f"its name reads as {name!r}")
    return spec


def _no_status(id: str) -> Any:
    raise ValueError("status() is known only while a pass runs")


def _at(document: Document) -> str:
    return f"{document.file}:{document.line}"


def _uses(value: Any) -> set[str]:
    return {name for one in expressions_in(value) for name in re.findall(r"\bvars\.([A-Za-z_]\w*)", one.source)}


def _evaluate(value: Any, environment: Environment) -> Any:
    return _walk(value, (), lambda text, path: render(text, environment))


def _walk(value: Any, path: tuple[str | int, ...], change: Callable[[str, tuple[str | int, ...]], Any]) -> Any:
    """Rebuild nested data with every text that holds an expression replaced by what ``change`` makes of it."""
    if isinstance(value, str):
        return change(value, path) if "${" in value else value
    if isinstance(value, dict):
        return {key: _walk(item, (*path, key), change) for key, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, (*path, number), change) for number, item in enumerate(value)]
    return value


def _without_secrets(value: Any) -> Any:
    """Leave out every value that is a secret reference: what ``ref()`` gives ends up in plain text."""
    if isinstance(value, dict):
        return {str(key): _without_secrets(item) for key, item in value.items() if not isinstance(item, SecretRef)}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value if not isinstance(item, SecretRef)]
    return value
