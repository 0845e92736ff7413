"""The nouns and the small rooms: ids, marks, pointers, secrets, digests, order, trying again, targets, writing, kinds."""

import base64
import json
import logging
import pickle
from contextlib import suppress
from itertools import pairwise
from threading import Event
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from reconciler.clock import Clock
from reconciler.desired import stack_names
from reconciler.driver import Action, Change, Mark, Ownership, Plugin, Scope, SecretReading, SecretVersion, Status, no_span
from reconciler.errors import InputError, Permanent, Problem, SettingsError, Transient
from reconciler.graph import build, cycle
from reconciler.registry import Catalog, load
from reconciler.resource import (
    Address,
    Resource,
    ResourceId,
    SecretRef,
    SecretValue,
    digest,
    find_secrets,
    get,
    join_pointer,
    put,
    seal,
    split_pointer,
)
from reconciler.retry import Retry
from reconciler.secrets import Secrets
from reconciler.settings import Engine
from reconciler.stack import READERS
from reconciler.targets import Targets
from reconciler.writing import apply_each
from tests.unit.core.memory import CATALOG, OTHER, PLUGIN, FakeTime, System, Thing, mem, resource, tree

WORD = st.text("abc-.", min_size=1, max_size=5)


# -- ids, marks, pointers -----------------------------------------------------------------------------------------------------------


@given(WORD, WORD, st.text("abc/-", min_size=1, max_size=6))
def test_an_id_can_be_read_back(driver: str, kind: str, name: str) -> None:
    id = ResourceId(driver, kind, name)
    assert ResourceId.parse(str(id)) == id


@pytest.mark.parametrize("text", ["", "a", "a/b", "a//c", "/b/c", "a/b/"])
def test_what_is_no_id_is_refused_with_its_form(text: str) -> None:
    with pytest.raises(ValueError, match="is not a resource id; write driver/Kind/name"):
        ResourceId.parse(text)


@given(st.text("ab/-", min_size=1), WORD, st.text("ab/-", min_size=1), st.booleans())
def test_a_mark_can_be_read_back(owner: str, kind: str, name: str, keep: bool) -> None:
    mark = Mark(owner, kind, name, keep)
    assert Mark.parse(str(mark)) == mark
    assert mark.ownership(owner) is Ownership.OURS
    assert mark.ownership(owner + "x") is Ownership.FOREIGN


@pytest.mark.parametrize(
    "text", ["", "managed by hand", "reconciler:x", "reconciler:a:b", "other:a:K/n", "reconciler:a:K/n:maybe", "reconciler:a:K/n:keep:x"]
)
def test_what_is_no_mark_is_nobodys(text: str) -> None:
    assert Mark.parse(text) is None


@given(st.lists(st.text("a/~1", max_size=3), min_size=1, max_size=4))
def test_a_pointer_can_be_read_back(parts: list[str]) -> None:
    assert split_pointer(join_pointer(tuple(parts))) == parts


def test_a_pointer_into_nothing_gives_nothing_and_changes_nothing() -> None:
    data: dict[str, Any] = {"a": [{"b": 1}], "c": "x"}
    assert get(data, "/a/0/b") == 1
    for pointer in ("/x", "/a/7", "/a/b", "/c/d", "/a/0/b/c", "/x/y/z", "/a/9/b"):
        assert get(data, pointer) is None
        if pointer != "/x":
            put(data, pointer, 1)
    assert data == {"a": [{"b": 1}], "c": "x"}
    put(data, "/a/0/b", None)
    assert data == {"a": [{}], "c": "x"}


# -- secrets and digests ------------------------------------------------------------------------------------------------------------


REF = SecretRef('${vault("p", "k")}', (("p", "k"),))


def test_a_secret_value_is_never_printed_formatted_or_pickled() -> None:
    value = SecretValue("c4n4ry")
    assert f"{value} {value!r} {[value]} {value!s:>5}" == "*** *** [***]   ***"
    with pytest.raises(TypeError, match="cannot be serialised"):
        pickle.dumps(value)
    assert value.reveal() == "c4n4ry"


@given(st.text(min_size=10, max_size=60), st.binary(max_size=4), st.binary(max_size=4))
def test_a_value_is_taken_out_of_words_in_every_spelling_that_a_server_may_quote(value: str, before: bytes, after: bytes) -> None:
    secret = SecretValue(value)
    for spelled in (value, json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value), quote(value), quote_plus(value)):
        assert secret.out_of(f"no: {spelled}") in ("no: ***", 'no: "***"', "no: '***'")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(before + value.encode() + after).decode()
        left = secret.out_of(whole)
        assert "***" in left
        assert len(left) <= len("***") + 2 * 4 + len(encode(before)) + len(encode(after))


def test_words_without_the_value_and_too_short_a_value_leave_words_as_they_are() -> None:
    assert SecretValue("c4n4ry").out_of("cannot do it") == "cannot do it"
    assert SecretValue("").out_of("cannot do it") == "cannot do it"
    assert SecretValue("do").out_of("cannot do it") == "cannot do it"


def test_references_are_found_and_sealed_wherever_they_stand() -> None:
    spec = Thing(text=REF, tags={"a": "x"})
    assert spec.secrets() == (REF,)
    assert spec.canonical(lambda ref: "f")["text"] == "secret:f"
    nested = {"a": [REF, {"b": (REF,)}], "c": frozenset({"y", "x"})}
    assert list(find_secrets(nested)) == [REF, REF]
    assert seal(nested, lambda ref: "f") == {"a": ["secret:f", {"b": ["secret:f"]}], "c": ["x", "y"]}


def test_a_text_from_git_cannot_pass_for_a_reference() -> None:
    assert Thing.model_validate({"text": "secret:abc"}).secrets() == ()
    with pytest.raises(ValueError, match="SecretRef"):
        Thing.model_validate({"text": {"template": "x", "inputs": []}})


def test_the_digest_of_a_wish_knows_its_values_and_not_its_place_or_the_versions_of_its_secrets() -> None:
    assert resource("a", text="x").digest == resource("b", text="x").digest
    assert resource("a", text="x").digest != resource("a", text="y").digest
    assert resource("a", text=REF).digest == resource("a", text=REF).digest
    assert digest({"b": 1, "a": [1]}) == digest({"a": [1], "b": 1})


def test_a_fingerprint_knows_the_reference_the_version_and_the_key_and_no_value() -> None:
    def fingerprint(key: bytes = b"k", version: str = "1", ref: SecretRef = REF) -> str:
        return Secrets(None, Scope("x"), key, {"p": SecretVersion(version)}).fingerprint(ref)

    assert fingerprint() == fingerprint()
    assert len({fingerprint(), fingerprint(b"other"), fingerprint(version="2"), fingerprint(ref=SecretRef("x", (("p", "k"),)))}) == 4


def test_a_secret_is_read_once_for_each_pass_and_dropped_at_its_end() -> None:
    reads: list[str] = []

    class Store:
        def read(self, path: str, scope: Scope) -> Any:
            reads.append(path)
            return SecretReading({"k": SecretValue("v")})

    secrets = Secrets(Store(), Scope("x"), b"k")  # type: ignore[arg-type]
    assert [secrets.reveal(REF).reveal() for _ in range(3)] == ["v", "v", "v"]
    assert reads == ["p"]
    secrets.close()
    secrets.reveal(REF)
    assert reads == ["p", "p"]


def test_without_a_store_consumers_wait_and_are_told_what_is_missing() -> None:
    secrets = Secrets(None, Scope("x"), b"k")
    assert secrets.prepare([resource("a", text=REF), resource("b")]) == {
        mem("a"): "no target keeps secrets; configure one, e.g. targets.vault"
    }
    with pytest.raises(Permanent, match="no target keeps secrets"):
        secrets.reveal(REF)
    with pytest.raises(Permanent, match="no secret store is configured"):
        Scope("x").reveal(REF)


# -- order --------------------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.sets(st.sampled_from("abcdefgh"), max_size=3), max_size=8))
def test_every_resource_comes_after_what_it_needs_or_the_circle_is_named(edges: dict[str, set[str]]) -> None:
    wishes = [resource(name, needs=sorted(edges[name] & set(edges) - {name})) for name in edges]
    ring = cycle({one: edges[one] & set(edges) - {one} for one in edges})
    if ring:
        assert ring[0] == ring[-1] == min(ring)
        assert all(second in edges[first] for first, second in pairwise(ring))
        with pytest.raises(InputError, match="depends on itself"):
            build(wishes)
        return
    graph = build(wishes)
    level = graph.level()
    assert all(level[earlier] < level[id] for id, before in graph.before.items() for earlier in before)
    assert sorted(one.id for one in graph) == sorted(one.id for one in wishes)


def test_a_graph_knows_what_depends_on_what_and_gives_a_part_with_what_it_needs() -> None:
    graph = build([resource("a"), resource("b", needs=["a"]), resource("c", refs=["b"]), resource("d")])
    assert graph.downstream([mem("a")]) == {mem("b"), mem("c")}
    assert sorted(one.id.name for one in graph.subgraph([mem("b")])) == ["a", "b"]
    assert graph.after()[mem("b")] == {mem("c")}


def test_a_graph_refuses_twins_and_edges_to_nowhere() -> None:
    with pytest.raises(InputError, match="is declared twice"):
        build([resource("a"), resource("a")])
    with pytest.raises(InputError, match=r"refers to mem/Thing/aa, which this stack does not declare; did you mean mem/Thing/a\?"):
        build([resource("a"), Resource(mem("b"), Thing(), needs=(mem("aa"),))])


def test_problems_are_sorted_by_place_and_named_once() -> None:
    problems = [Problem("b", 1, "x"), Problem("a", 10, "y", "r"), Problem("a", 2, "z"), Problem("b", 1, "x"), Problem("c", 0, "w")]
    assert str(InputError(problems)) == "a:2: z\na:10: r: y\nb:1: x\nc: w"


# -- trying again -------------------------------------------------------------------------------------------------------------------


def attempts(errors: list[Exception], stop: Event | None = None, **more: Any) -> tuple[int, list[float]]:
    time, count = FakeTime(), [0]
    retry = Retry(
        Engine(attempts=4, backoff=1, backoff_max=5), stop or Event(), time.clock(), jitter=more.get("jitter", lambda low, high: high)
    )

    def work() -> None:
        count[0] += 1
        if errors:
            raise errors.pop(0)

    with suppress(Transient, Permanent):
        retry.call(work)
    return count[0], time.waits


def test_pauses_double_up_to_the_longest_with_jitter_down_to_half() -> None:
    assert attempts([Transient("x")] * 9) == (4, [1, 2, 4])
    assert attempts([Transient("x")] * 9, jitter=lambda low, high: low) == (4, [0.5, 1, 2])


def test_what_is_permanent_is_not_tried_again() -> None:
    assert attempts([Permanent("x")]) == (1, [])


def test_each_try_that_failed_is_told_to_who_debugs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "reconciler.retry"):
        attempts([Transient("busy")])
    assert caplog.messages == ["try 1 failed, again in 1.00 s: busy"]


def test_a_server_that_asks_for_no_delay_gets_none() -> None:
    assert attempts([Transient("x", retry_after=0)]) == (2, [0])


def test_a_stop_ends_the_tries() -> None:
    stop = Event()
    stop.set()
    assert attempts([Transient("x")] * 9, stop)[0] == 1


def test_the_real_clock_is_aware_of_its_time_zone() -> None:
    clock = Clock()
    assert clock.now().utcoffset() is not None
    assert clock.monotonic() <= clock.monotonic()
    done = Event()
    done.set()
    assert clock.wait(done, 60)


# -- targets and kinds --------------------------------------------------------------------------------------------------------------


def test_a_target_is_opened_once_and_closed_even_when_a_neighbour_fails_to(caplog: pytest.LogCaptureFixture) -> None:
    with Targets({"one": {"system": System(), "driver": "mem"}, "mem": {"system": System()}}, CATALOG) as targets:
        first: Any = targets.get("mem")
        assert targets.get("mem") is first
        other: Any = targets.get("one")
        other.close = lambda: 1 / 0
        assert list(targets) == ["mem", "one"]
    assert first.closed == 1
    assert "target one did not close cleanly" in caplog.text


def test_a_target_of_another_driver_is_named() -> None:
    targets = Targets({"x": {"driver": "pool"}}, CATALOG)
    assert targets.problem("x", "mem") == "target 'x' uses the driver pool, not mem"
    assert targets.problem("y", "mem") == "the settings have no target 'y' (configured: x); add it below targets"


def test_a_driver_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(SettingsError, match="there is no driver 'x'; installed are mem, pool"):
        CATALOG.plugin("x")
    with pytest.raises(SettingsError, match=r"nowhere:x cannot be loaded"):
        load("nowhere:x")
    with pytest.raises(SettingsError, match="cannot be loaded"):
        load("reconciler.clock:nothing")


def test_a_group_that_nobody_claims_goes_to_the_driver_of_every_kind_unless_it_is_a_near_miss() -> None:
    wide = Plugin("k8s", "", {"*": Thing}, PLUGIN.config, "x:y")
    flare = Plugin("cloudflare", "cloudflare/v1", {"DNSRecord": Thing}, PLUGIN.config, "x:y")
    catalog = Catalog((wide, flare, PLUGIN, OTHER))
    for group in ("v1", "apps/v1", "networking.k8s.io/v1", "cert-manager.io/v1", "batch/v1", "cloudflare.example.com/v1"):
        assert catalog.find(group, "Anything") == (wide, Thing)
    for group in ("cloudflair/v1", "cloudflare/v2", "cloudflares/v1", "cloudflare"):
        with pytest.raises(KeyError, match=r"did you mean cloudflare/v1\?"):
            catalog.find(group, "DNSRecord")
    with pytest.raises(KeyError, match=r"did you mean reconciler/v1\?"):
        catalog.find("reconcilier/v1", "Stack")


def test_stacks_are_the_folders_with_a_stack_file() -> None:
    files = {
        **tree({}, "desired/mail"),
        **tree({}, "desired/team/web"),
        "desired/x/other.yaml": b"",
        "stack.yaml": b"",
        "other/a/stack.yaml": b"",
    }
    assert stack_names(files) == ["mail", "team/web"]
    assert stack_names({"a/stack.yaml": b""}, "") == ["a"]


def test_annotations_are_read_as_kubernetes_people_write_them() -> None:
    assert READERS["ignore"]('["/a", "/b"]') == ("/a", "/b")
    assert READERS["depends-on"]("mem/Thing/a, mem/Thing/b") == (mem("a"), mem("b"))
    assert READERS["depends-on"](["mem/Thing/a"]) == (mem("a"),)
    assert [READERS["adopt"](value) for value in ("true", True, "false", False)] == [True, True, False, False]


# -- writing ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 4])
def test_each_change_has_its_own_outcome_whatever_the_others_raise(workers: int) -> None:
    errors = {"a": Transient("a: 429", retry_after=3), "b": Permanent("b: no"), "c": RuntimeError("c4n4ry")}

    def write(change: Change) -> str | None:
        if (error := errors.get(change.id.name)) is not None:
            raise error
        return "done"

    outcomes = apply_each([Change(Action.CREATE, mem(name), "mem") for name in "abcd"], write, workers=workers)
    assert [(one.id.name, one.status, one.message, one.transient, one.retry_after) for one in outcomes] == [
        ("a", Status.FAILED, "a: 429", True, 3),
        ("b", Status.FAILED, "b: no", False, None),
        ("c", Status.FAILED, "bug: RuntimeError in the driver", False, None),
        ("d", Status.APPLIED, "done", False, None),
    ]


def test_a_span_where_nothing_traces_is_nothing() -> None:
    with no_span("GET x", count=1):
        pass


@pytest.mark.parametrize("text", ["https://me:pw@host", "me:pw@host", "https://me:p?w@host/x", "https://me:p/w@host", "https://me@host?x"])
def test_an_address_with_a_user_or_a_password_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="must hold no user name or password"):
        TypeAdapter(Address).validate_python(text)


@pytest.mark.parametrize("text", ["", "https://host:8200/v1", "https://host/find?q=a@b"])
def test_any_other_address_stays_as_it_is(text: str) -> None:
    assert TypeAdapter(Address).validate_python(text) == text
