"""The official definitions of each format, and what they say of a document."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf.json_format import MessageToDict, ParseDict
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from jsonschema import Draft7Validator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document


def check_spdx(path: Path) -> None:
    """Check a document against the JSON schema of SPDX 2.3 and, read again, against spdx-tools' rules."""
    schema = json.loads((files("lib4sbom") / "schemas/spdx/2.3-schema.json").read_text(encoding="utf-8"))
    assert schema["$id"] == "http://spdx.org/rdf/terms/2.3"
    errors = list(Draft7Validator(schema).iter_errors(json.loads(path.read_bytes())))
    assert not errors, errors
    messages = validate_full_spdx_document(parse_file(str(path)))
    assert not messages, [message.validation_message for message in messages]


def check_cyclonedx(path: Path) -> None:
    """Check a document against the strict JSON schema of CycloneDX 1.6."""
    errors = JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text(encoding="utf-8"), all_errors=True)
    assert not errors, list(errors)


def check_provenance(document: dict[str, Any]) -> None:
    """Check a statement against the protobuf definitions of in-toto and SLSA: unknown fields and wrong types fail."""
    statement = ParseDict(document, statement_pb2.Statement())
    Statement.copy_from_pb(statement).validate()
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    predicate = ParseDict(document["predicate"], provenance_pb2.Provenance())
    assert MessageToDict(predicate) == document["predicate"]
    assert predicate.build_definition.build_type
    assert predicate.build_definition.HasField("external_parameters")
    assert predicate.run_details.builder.id
