"""The ids of sets, and what the parent needs to remember."""

import pytest

from reconciler_k8s.applyset import ApplySet, Contents, kind_name, kinds_served, set_id
from reconciler_k8s.client import Served
from reconciler_k8s.write import contents_of

SERVICES = Served("", "v1", "Service", "services", True)
KNATIVE = Served("serving.knative.dev", "v1", "Service", "services", True)
OLD_KNATIVE = Served("serving.knative.dev", "v1alpha1", "Service", "services", True)


def test_ids_follow_the_formula_of_the_proposal() -> None:
    """The value is the one that kubectl 1.32 gives to the set of this parent."""
    assert set_id("demo", "default", "ConfigMap", "") == "applyset-6dAHdOng1govwjgvU19ChjzFH8yFbMYk2yCB2_KxvME-v1"


def test_names_and_ids_are_valid_and_different_for_different_owners() -> None:
    owners = ["prod/mail", "prod-mail", "prod/mail2", "x" * 60, "/", "Prod/Mail"]
    sets = [ApplySet(owner, "default") for owner in owners]
    assert len({one.name for one in sets}) == len({one.id for one in sets}) == len(owners)
    assert all(one.name == one.name.lower() and one.name[-1].isalnum() for one in sets)
    assert all(len(one.id) <= 63 for one in sets)


def test_the_same_stack_in_another_namespace_is_another_set() -> None:
    assert ApplySet("prod/mail", "a").id != ApplySet("prod/mail", "b").id


def test_each_remembered_kind_is_looked_for_in_one_version_and_one_group() -> None:
    served = {(one.api_version, one.kind): one for one in (SERVICES, KNATIVE, OLD_KNATIVE)}
    assert list(kinds_served({"Service.serving.knative.dev"}, served)) == [KNATIVE]
    assert list(kinds_served({"Service"}, served)) == [SERVICES]
    assert not list(kinds_served({"Gone.example.org"}, served))
    assert [kind_name(one) for one in (SERVICES, KNATIVE)] == ["Service", "Service.serving.knative.dev"]


def test_contents_grow_by_union() -> None:
    one, other = Contents(frozenset({"A"}), frozenset({"n"})), Contents(frozenset({"B"}))
    assert (one | other) == Contents(frozenset({"A", "B"}), frozenset({"n"}))
    assert contents_of([]) == Contents()


@pytest.mark.parametrize("owner", ["a", "team/stack", "a.b/c_d"])
def test_the_name_tells_a_person_whose_it_is(owner: str) -> None:
    assert ApplySet(owner, "n").name.startswith("reconciler-" + owner.replace("/", "-").replace(".", "-").replace("_", "-"))
