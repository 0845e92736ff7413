"""The API against its own document: whatever is asked, the answer is one that the document promises, and never a bug."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.daemon.http.api import OPERATIONS, PREFIX
from reconciler.daemon.http.openapi import document
from tests.e2e.http_house import APPROVE, Served
from tests.unit.core.memory import thing
from tests.unit.daemon.house import GOOD, commit

SCHEMA = schemathesis.openapi.from_dict(document(OPERATIONS, PREFIX))
WAYS = [one.ok() for one in SCHEMA.get_all_operations()]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("schema")) as made:
        report = thing("r", text="x", annotations={"drift": "report"})
        made.house.daemon.accept(commit("c1", mail=GOOD + report))
        made.house.passes()
        made.house.system.objects["Thing/r"].content["text"] = "meddled"
        made.house.daemon.queue.request("mail", "look")
        made.house.passes()
        yield made


@pytest.mark.parametrize("way", WAYS, ids=lambda one: one.label)
def test_every_answer_is_one_that_the_document_promises(way: Any, served: Served) -> None:
    """Statuses, content types and shapes; the checks are those of schemathesis."""
    answered, now = set(), served.house.time.clock().now()

    @given(way.as_strategy(), st.timedeltas(timedelta(hours=1), timedelta(days=29)))
    @settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
    def law(case: Any, ahead: timedelta) -> None:
        if isinstance(case.body, dict) and "until" in case.body:  # a schema cannot say that it must lie ahead
            case.body["until"] = (now + ahead).isoformat()
        answer = case.call(base_url=served.url, headers={"Authorization": f"Bearer {APPROVE}"}, timeout=10)
        case.validate_response(answer, headers={"Authorization": f"Bearer {APPROVE}"})
        answered.add(answer.status_code)

    law()
    assert answered
