"""Files of one stack -> typed resources in order. Every problem of the input is reported at once, each with file and line.

Pure after the bytes: it reads no file, asks no system and decides nothing. What an expression needs from a live system (``status``) is
left open in an ``Unresolved`` spec and closed by ``resolve`` once the pass has observed it.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from graphlib import TopologicalSorter
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from reconciler.checks import check
from reconciler.documents import Document, line_of, nameless, read
from reconciler.driver import Plugin
from reconciler.errors import InputError, Problem
from reconciler.expressions import Environment, Expression, ExpressionError, parse, partial, render
from reconciler.graph import Graph, build, cycle, rivals
from reconciler.invalid import did_you_mean, explain
from reconciler.plan import Exemption
from reconciler.registry import ANNOTATIONS, OWN_GROUP, Catalog
from reconciler.resolving import build_spec
from reconciler.resource import Drift, JSONObject, Origin, Resource, ResourceId, ResourcePolicy, Spec, find_secrets, seal
from reconciler.stack import READERS, STACK_FILE, ExceptionSpec, Stack, StackSpec, Unresolved
from reconciler.templates import Path, evaluated, uses_variables, walk, with_literals, without_open, without_secrets

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?\Z")
Reading: TypeAlias = Callable[[str, bytes], tuple[list[Document], list[Problem]]]
_ENVELOPE = ("apiVersion", "kind", "metadata", "spec")


@dataclass(slots=True)
class _Entry:
    """A document on its way to a resource. ``open`` are the places whose value only a live object knows."""

    document: Document
    plugin: Plugin
    kind: type[Spec]
    id: ResourceId
    uses: list[tuple[Path, Expression]] = field(default_factory=list)
    open: set[Path] = field(default_factory=set)
    bad: bool = False
    data: JSONObject = field(default_factory=dict)
    value: Spec | None = None

    @property
    def statuses(self) -> tuple[ResourceId, ...]:
        return tuple(dict.fromkeys(id for _, one in self.uses for id in one.statuses))

    @property
    def refs(self) -> tuple[ResourceId, ...]:
        return tuple(dict.fromkeys(id for _, one in self.uses for id in (*one.refs, *one.statuses)))


def load_stack(tree: Mapping[str, bytes], folder: str, catalog: Catalog, *, today: date, reading: Reading = read) -> Stack:
    """Load the stack in ``folder`` (e.g. ``desired/mail``). Raises InputError with every problem found."""
    return _Loader(tree, folder.rstrip("/"), catalog, today, reading).load()


class _Loader:
    """Carries the problems of one stack through the stages of loading it.

    ``whole`` is false once something could not be read: what seems to be missing may then stand in there, so it is not complained about.
    """

    def __init__(self, tree: Mapping[str, bytes], folder: str, catalog: Catalog, today: date, reading: Reading) -> None:
        self.tree, self.folder, self.catalog, self.today, self.reading = tree, folder, catalog, today, reading
        self.name = posixpath.basename(folder)
        self.problems: list[Problem] = []
        self.entries: dict[str, _Entry] = {}
        self.environment = Environment({})
        self.order: list[str] = []
        self.whole = True
        self.drift = Drift.ENFORCE

    def load(self) -> Stack:
        """Run the stages: documents, stack, identities, values, order."""
        documents = list(self._documents())
        self.whole = not self.problems
        spec, place, exceptions = self._stack(documents)
        variables = self._variables(spec.vars, place) if spec is not None and place is not None else None
        self.environment = Environment(variables or {}, ref=self._ref, status=_no_status, vault=None, file=self._file)
        self.whole = self.whole and variables is not None
        for document in documents:
            self._identify(document)
        self._edges()
        if spec is None or variables is None:
            raise InputError(self.problems)
        for name in self.order:
            self._fill(self.entries[name])
        self.drift = Drift(spec.policy.drift)
        resources = [resource for entry in self.entries.values() if (resource := self._resource(entry)) is not None]
        exemptions = tuple(one for document in exceptions if (one := self._exemption(document)) is not None)
        graph = self._graph(resources)
        targets = {one.id: one.policy.target or spec.targets.get(one.id.driver, one.id.driver) for one in resources}
        return replace(stack := Stack(self.name, spec, graph, exemptions, targets), findings=check(stack))

    def _graph(self, resources: Sequence[Resource]) -> Graph:
        """Order what could be built, so that cycles are reported beside every other problem."""
        known = {one.id for one in resources}
        built = [replace(one, needs=_among(one.needs, known), refs=_among(one.refs, known), digest=one.digest) for one in resources]
        try:
            graph = build(built)
            self.problems += rivals(resources)
        except InputError as error:
            self.problems += error.problems
        if self.problems:
            raise InputError(self.problems)
        return graph

    def _problem(self, document: Document, path: Sequence[str | int], message: str, resource: str = "") -> None:
        line = line_of(self.tree[document.file], document.index, path) or document.line
        self.problems.append(Problem(document.file, line, message, resource))

    # -- documents and the stack itself --------------------------------------------------------------------------------------

    def _documents(self) -> Iterator[Document]:
        prefix = f"{self.folder}/"
        if f"{prefix}{STACK_FILE}" not in self.tree:
            self.problems.append(Problem(f"{prefix}{STACK_FILE}", 0, "does not exist; every stack has one"))
        inner = tuple(path.removesuffix(STACK_FILE) for path in self.tree if path.startswith(prefix) and path.endswith(f"/{STACK_FILE}"))
        others = tuple(path for path in inner if path != prefix)
        for file in sorted(self.tree):
            if file.startswith(prefix) and file.endswith((".yaml", ".yml")) and not file.startswith(others):
                documents, problems = self.reading(file, self.tree[file])
                self.problems += problems
                yield from documents

    def _stack(self, documents: list[Document]) -> tuple[StackSpec | None, Document | None, list[Document]]:
        """Take our own documents out of ``documents``: the spec of the Stack, where it stands, and the drift exceptions."""
        own = [one for one in documents if one.data.get("apiVersion") == OWN_GROUP]
        for one in own:
            documents.remove(one)
            kind = one.data.get("kind")
            if kind in ("Stack", "DriftException"):
                self._keys(one)
            else:
                hint = did_you_mean(str(kind), ("DriftException", "Stack"))
                self._problem(one, ["kind"], f"{OWN_GROUP} has no kind {kind!r}; it has DriftException, Stack{hint}")
        stacks = [one for one in own if one.data.get("kind") == "Stack"]
        for extra in stacks[1:]:
            self._problem(extra, [], f"a second Stack; the first is at {_at(stacks[0])}")
        if not stacks and self.whole:
            self.problems.append(
                Problem(f"{self.folder}/{STACK_FILE}", 0, f"holds no Stack; write apiVersion: {OWN_GROUP} and kind: Stack")
            )
        spec = self._validate(StackSpec, stacks[0]) if stacks else None
        return spec, stacks[0] if stacks else None, [one for one in own if one.data.get("kind") == "DriftException"]

    def _validate(self, model: type[Any], document: Document) -> Any:
        try:
            return model.model_validate(document.data.get("spec") or {})
        except ValidationError as error:
            self._invalid(document, error, model, ["spec"], "")
            return None

    def _invalid(self, document: Document, error: ValidationError, model: type[BaseModel], below: list[str], resource: str) -> None:
        for path, message in explain(error, model):
            where = ".".join(str(part) for part in (*below, *path))
            self._problem(document, [*below, *path], f"{where}: {message}" if where else message, resource)

    def _variables(self, raw: Mapping[str, Any], place: Document) -> dict[str, Any] | None:
        """Evaluate the variables, which may use one another. None when there is a problem with one."""
        done: dict[str, Any] = {}
        left, count = dict(raw), len(self.problems)
        while left:
            ready = [name for name, value in left.items() if not uses_variables(value) & set(left)]
            if not ready:
                self._problem(place, ["spec", "vars"], "these variables use one another in a circle: " + ", ".join(sorted(left)))
                return None
            for name in ready:
                try:
                    done[name] = evaluated(left.pop(name), Environment(dict(done)))
                    if any(find_secrets(done[name])):
                        raise ExpressionError(f"vars.{name} reads a secret; write vault() where the secret is used")
                except ExpressionError as error:
                    self._problem(place, ["spec", "vars", name], str(error))
                    done[name] = ""
        return done if len(self.problems) == count else None

    # -- identities ----------------------------------------------------------------------------------------------------------

    def _identify(self, document: Document) -> None:
        data = document.data
        api_version, kind, metadata = data.get("apiVersion"), data.get("kind"), data.get("metadata")
        if not isinstance(api_version, str) or not isinstance(kind, str):
            self._problem(document, [], "a document needs apiVersion and kind")
        elif not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            self._problem(document, *nameless(kind, data))
        else:
            try:
                plugin, spec = self.catalog.find(api_version, kind)
            except KeyError as error:
                self._problem(document, ["kind"], str(error.args[0]))
                self.whole = False
            else:
                self._enter(document, plugin, spec, metadata)
            return
        self.whole = False

    def _enter(self, document: Document, plugin: Plugin, spec: type[Spec], metadata: JSONObject) -> None:
        names = Environment(self.environment.variables)
        try:
            name, namespace = evaluated(metadata["name"], names), evaluated(metadata.get("namespace") or "", names)
        except ExpressionError as error:
            if self.whole:
                self._problem(document, ["metadata", "name"], str(error))
            return
        if plugin.api_version:
            self._check_envelope(document, name)
        elif not isinstance(name, str) or not isinstance(namespace, str):
            self._problem(document, ["metadata", "name"], "the name and the namespace must be texts")
            return
        full = f"{namespace}/{name}" if namespace and not plugin.api_version else str(name)
        id = ResourceId(plugin.name, spec.kind_of(document.data), full)
        other = self.entries.get(str(id))
        if other is not None:
            self._problem(document, ["metadata", "name"], f"is declared twice; the other one is at {_at(other.document)}", str(id))
            return
        self.entries[str(id)] = entry = _Entry(document, plugin, spec, id)
        walk(document.data, (), lambda text, path: self._note(entry, text, path))

    def _note(self, entry: _Entry, text: str, path: Path) -> str:
        """Remember the expressions of one text."""
        try:
            entry.uses += [(path, part) for part in parse(text) if isinstance(part, Expression)]
        except ExpressionError as error:
            self._problem(entry.document, path, str(error), str(entry.id))
            entry.bad = True
        return text

    def _keys(self, document: Document) -> None:
        for key in document.data:
            if key not in _ENVELOPE:
                hint = did_you_mean(str(key), _ENVELOPE)
                self._problem(document, [key], f"{key} is not a field here; a document has apiVersion, kind, metadata and spec{hint}")
        metadata = document.data.get("metadata") or {}
        if not isinstance(metadata, dict):
            self._problem(document, ["metadata"], "metadata must be a mapping")
            return
        for key in metadata:
            if key not in ("name", "annotations", "labels"):
                hint = did_you_mean(str(key), ("name", "annotations", "labels"))
                self._problem(document, ["metadata", key], f"metadata.{key} is not a field here{hint}")

    def _check_envelope(self, document: Document, name: Any) -> None:
        self._keys(document)
        if not isinstance(name, str) or not _NAME.match(name):
            self._problem(document, ["metadata", "name"], f"{name!r} is not a name; use letters, digits, dots and dashes, at most 128")

    def _edges(self) -> None:
        """Find what expressions refer to and nobody declares, and what leads back to itself; nothing of that is evaluated."""
        for entry in self.entries.values():
            for path, expression in entry.uses:
                for id in (*expression.refs, *expression.statuses):
                    if str(id) not in self.entries:
                        entry.bad = True
                        self._dangling(entry, path, id)
        edges = {name: [str(id) for id in entry.refs if str(id) in self.entries] for name, entry in sorted(self.entries.items())}
        while ring := cycle(edges):
            first = self.entries[ring[0]]
            self._problem(first.document, [], "depends on itself: " + " -> ".join(ring), ring[0])
            for name in ring:
                self.entries[name].bad = True
                edges.pop(name, None)
        self.order = list(TopologicalSorter({name: [one for one in found if one in edges] for name, found in edges.items()}).static_order())

    def _dangling(self, entry: _Entry, path: Sequence[str | int], id: ResourceId) -> None:
        if self.whole:
            message = f"refers to {id}, which this stack does not declare{did_you_mean(str(id), list(self.entries))}"
            self._problem(entry.document, path, message, str(entry.id))

    # -- values --------------------------------------------------------------------------------------------------------------

    def _resource(self, entry: _Entry) -> Resource | None:
        policy, needs = self._annotations(entry)
        if entry.value is None:
            return None
        origin = Origin(entry.document.file, entry.document.line)
        return Resource(entry.id, entry.value, needs, entry.refs, policy, origin)

    def _fill(self, entry: _Entry) -> None:
        """Give an entry its value; those it refers to have theirs. It stays without one when there is a problem with it or with those."""
        if not entry.bad and all(self.entries[str(id)].value is not None for id in entry.refs):
            count = len(self.problems)
            entry.data = walk(entry.document.data, (), lambda text, path: self._render(entry, text, path))
            entry.value = self._spec(entry) if len(self.problems) == count else None

    def _render(self, entry: _Entry, text: str, path: Path) -> Any:
        try:
            if any(isinstance(part, Expression) and part.statuses for part in parse(text)):
                entry.open.add(path)
                return partial(text, self.environment)
            return render(text, self.environment)
        except ExpressionError as error:
            self._problem(entry.document, path, str(error), str(entry.id))
            return text

    def _spec(self, entry: _Entry) -> Spec | None:
        if entry.statuses:
            document = with_literals(entry.data, entry.open)
            return Unresolved(document=document, statuses=entry.statuses, variables=dict(self.environment.variables))
        try:
            return build_spec(entry.kind, entry.data, entry.id)
        except ValidationError as error:
            self._invalid(entry.document, error, entry.kind, ["spec"] if entry.plugin.api_version else [], str(entry.id))
        except ValueError as error:
            self._problem(entry.document, [], str(error), str(entry.id))
        return None

    def _ref(self, id: str) -> Any:
        """Give the desired document of ``id`` to an expression, without what is secret or not yet known in it."""
        entry = self.entries[id]
        data, exports = without_open(entry.data, entry.open), JSONObject()
        if entry.plugin.api_version and entry.value is not None and not isinstance(entry.value, Unresolved):
            data = {**data, "spec": seal(without_secrets(entry.value.model_dump(mode="python")), lambda ref: "")}
            exports = entry.value.exports(entry.id.name)
        return {**without_secrets(data), **exports}

    def _file(self, path: str) -> str:
        """Give the text of a file of this stack to an expression."""
        full = posixpath.normpath(posixpath.join(self.folder, path))
        if not full.startswith(f"{self.folder}/") or path.startswith("/"):
            raise ValueError(f"{path} lies outside the stack")
        if full not in self.tree:
            raise ValueError(f"{full} does not exist")
        return self.tree[full].decode("utf-8", errors="strict")

    # -- annotations and exceptions ------------------------------------------------------------------------------------------

    def _annotations(self, entry: _Entry) -> tuple[ResourcePolicy, tuple[ResourceId, ...]]:
        annotations = entry.document.data["metadata"].get("annotations") or {}
        if not isinstance(annotations, dict):
            self._problem(entry.document, ["metadata", "annotations"], "metadata.annotations must be a mapping", str(entry.id))
            return ResourcePolicy(), ()
        own = {str(key)[11:]: value for key, value in annotations.items() if str(key).startswith("reconciler/")}
        known = self.catalog.annotations()
        values: dict[str, Any] = {}
        for name, value in own.items():
            try:
                if name not in known:
                    raise ValueError(f"is not known; there are {', '.join(known)}{did_you_mean(name, known)}")
                if name in ANNOTATIONS:
                    values[name] = READERS[name](evaluated(value, Environment(self.environment.variables)))
            except ExpressionError:
                continue  # named where the whole document is filled in
            except (ValueError, TypeError) as error:
                self._annotation_problem(entry, name, str(error))
        needs = values.pop("depends-on", ())
        for id in needs:
            if str(id) not in self.entries:
                self._dangling(entry, ["metadata", "annotations", "reconciler/depends-on"], id)
        return ResourcePolicy(**{"drift": self.drift, **values}), needs

    def _annotation_problem(self, entry: _Entry, name: str, message: str) -> None:
        path = ["metadata", "annotations", f"reconciler/{name}"]
        self._problem(entry.document, path, f"annotation reconciler/{name}: {message}", str(entry.id))

    def _exemption(self, document: Document) -> Exemption | None:
        try:
            data = evaluated(document.data, Environment(self.environment.variables))
        except ExpressionError as error:
            self._problem(document, ["spec"], str(error))
            return None
        checked = self._validate(ExceptionSpec, replace(document, data=data))
        if checked is None:
            return None
        try:
            id = ResourceId.parse(checked.resource)
        except ValueError as error:
            self._problem(document, ["spec", "resource"], str(error))
            return None
        if str(id) not in self.entries:
            if self.whole:
                hint = did_you_mean(str(id), list(self.entries))
                self._problem(document, ["spec", "resource"], f"{id} is not declared in this stack{hint}")
            return None
        ended = checked.expires < self.today
        fields = (*checked.fields, *(pointer for pointer in checked.values if pointer not in checked.fields))
        return Exemption(id, fields, checked.reason, checked.ticket, checked.expires.isoformat(), ended, tuple(checked.values.items()))


def _among(ids: Sequence[ResourceId], known: set[ResourceId]) -> tuple[ResourceId, ...]:
    return tuple(id for id in ids if id in known)


def _no_status(id: str) -> Any:
    raise ValueError("status() is known only while a pass runs")


def _at(document: Document) -> str:
    return f"{document.file}:{document.line}"
