"""The JSON Schema that editors use: it is one, it accepts what we keep ourselves, and it catches what a person mistypes."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.cli import main, schema
from reconciler.registry import catalog
from tests.unit.cli.bench import Shell

jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).parents[3]


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted((ROOT / "desired").rglob("*.yaml")):
        for number, document in enumerate(yaml.load_all(file.read_text(), Loader=yaml.BaseLoader)):
            if document:
                yield f"{file.relative_to(ROOT)}#{number}", typed(file, number)


def typed(file: Path, number: int) -> dict[str, Any]:
    """The document as an editor sees it: JSON types, dates as text."""
    found = list(yaml.safe_load_all(file.read_text()))[number]
    return dict(json.loads(json.dumps(found, default=str)))


DOCUMENTS = dict(documents())
OURS = {name: one for name, one in DOCUMENTS.items() if any(one["apiVersion"] == plugin.api_version for plugin in catalog().plugins)}
OURS |= {name: one for name, one in DOCUMENTS.items() if one["apiVersion"] == "reconciler/v1"}


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    return schema._schemas()


def faults(schemas: dict[str, Any], document: dict[str, Any]) -> list[str]:
    found = schemas[f"{document['apiVersion']}/{document['kind']}"]
    return [one.message for one in jsonschema.Draft202012Validator(found).iter_errors(document)]


def test_every_kind_has_a_schema_that_is_one(schemas: dict[str, Any]) -> None:
    assert {"reconciler/v1/Stack", "reconciler/v1/DriftException", "cloudflare/v1/DNSRecord"} <= schemas.keys()
    for one in schemas.values():
        jsonschema.Draft202012Validator.check_schema(one)


@pytest.mark.parametrize("name", OURS)
def test_what_we_keep_ourselves_is_accepted(schemas: dict[str, Any], name: str) -> None:
    assert not faults(schemas, OURS[name])


@pytest.mark.parametrize("name", OURS)
def test_an_unknown_field_is_caught(schemas: dict[str, Any], name: str) -> None:
    wrong = deepcopy(OURS[name])
    wrong.setdefault("spec", {})["no-such-field"] = 1
    assert faults(schemas, wrong)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_schema_of_all_kinds_accepts_every_file_of_a_stack(everything: Any, name: str) -> None:
    assert everything.is_valid(DOCUMENTS[name])


def test_the_schema_of_all_kinds_catches_an_unknown_field_and_an_unknown_kind_of_ours(everything: Any) -> None:
    record = {"apiVersion": "cloudflare/v1", "kind": "DNSRecord", "metadata": {"name": "x"}}
    good = {"zone": "example.com", "name": "example.com", "type": "A", "content": "192.0.2.1"}
    assert everything.is_valid({**record, "spec": good})
    assert not everything.is_valid({**record, "spec": {**good, "tll": 300}})
    assert not everything.is_valid({**record, "kind": "DNSRecrod", "spec": good})


@pytest.fixture(scope="module")
def everything() -> Any:
    import contextlib
    import io

    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as ended:
        main(["schema"])
    assert ended.value.code == 0
    found = json.loads(output.getvalue())
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def test_a_field_may_be_an_expression_instead(schemas: dict[str, Any]) -> None:
    record = {
        "apiVersion": "cloudflare/v1",
        "kind": "DNSRecord",
        "metadata": {"name": "x"},
        "spec": {"zone": "${vars.domain}", "name": "a.${vars.domain}", "type": "A", "content": "${vars.wan}", "ttl": "${vars.ttl}"},
    }
    assert not faults(schemas, record)
    record["spec"] = {**record["spec"], "ttl": "soon"}  # type: ignore[dict-item]
    assert faults(schemas, record)


def test_one_kind_is_printed_by_its_name(shell: Shell) -> None:
    done = shell.run("schema", "mem/v1/Thing")
    assert done.code == 0
    assert done.data["title"] == "mem/v1/Thing"
    assert done.data["properties"]["spec"]["properties"]["size"]["default"] == 1


def test_an_unknown_kind_names_those_there_are(shell: Shell) -> None:
    done = shell.run("schema", "mem/v1/Thong")
    assert done.code == 1
    assert "mem/v1/Thong: there is no such kind; there are mem/v1/Precious, mem/v1/Secret, mem/v1/Thing" in done.err


def test_one_file_is_written_for_each_kind(shell: Shell) -> None:
    done = shell.run("schema", "--write", "schemas")
    assert done.code == 0
    written = sorted(path.name for path in (shell.folder / "schemas").iterdir())
    assert "mem-v1-Thing.json" in written
    assert done.out == f"{len(written)} files in schemas\n"
    assert json.loads((shell.folder / "schemas/mem-v1-Thing.json").read_text())["title"] == "mem/v1/Thing"
