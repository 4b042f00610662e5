"""The published schema of flow specs says what flow specs are."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mfbazel.analyze import read_flow
from mfbazel.analyze.model import SCHEMA

ROOT = Path(__file__).parents[2]
SCHEMA_FILE = ROOT / "docs" / "flow_spec.schema.json"
FLOW = """
from metaflow import FlowSpec, batch, conda, pypi_base, resources, step

@pypi_base(python="3.14")
class DemoFlow(FlowSpec):
    @batch(image="registry.example.com/own:1")
    @resources(gpu=1)
    @conda(packages={"pytorch::pytorch": "2.1"})
    @step
    def start(self):
        from google.cloud import storage
        self.next(self.end)

    @step
    def end(self):
        pass
"""


@pytest.fixture(name="spec")
def _spec(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "demo_flow.py").write_text(FLOW, encoding="utf-8")
    return read_flow(tmp_path / "demo_flow.py").to_json()


def schema() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(content)
    return content


def test_a_flow_spec_is_valid(spec: dict[str, Any]) -> None:
    jsonschema.validate(spec, schema())


def test_the_schema_is_of_the_version_that_is_written() -> None:
    assert schema()["properties"]["schema"] == {
        "const": SCHEMA,
        "description": schema()["properties"]["schema"]["description"],
    }


def test_every_field_that_is_written_is_in_the_schema_and_the_other_way_round(spec: dict[str, Any]) -> None:
    definitions = schema()["$defs"]
    step = spec["steps"][0]
    for name, written in [
        ("declared", step["declared"][0]),
        ("inferred", step["inferred"][0]),
        ("remote", step["remote"][0]),
    ]:
        assert set(definitions[name]["properties"]) == set(written)
    assert set(definitions["step"]["properties"]) == set(definitions["step"]["required"]) == set(step)
    assert set(schema()["properties"]) == set(schema()["required"]) == set(spec)


@pytest.mark.parametrize(
    "damage",
    [
        lambda spec: spec.pop("reading"),
        lambda spec: spec.update(schema=2),
        lambda spec: spec["steps"][0].update(unknown=1),
        lambda spec: spec["steps"][0].update(type="branch"),
        lambda spec: spec["steps"][0].update(platform="windows/amd64"),
        lambda spec: spec["steps"][0]["declared"][0].update(decorator="pip"),
        lambda spec: spec["steps"][0].update(requirements_sha256="x"),
    ],
)
def test_anything_else_is_invalid(spec: dict[str, Any], damage: Callable[[dict[str, Any]], object]) -> None:
    damaged = copy.deepcopy(spec)
    damage(damaged)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(damaged, schema())
