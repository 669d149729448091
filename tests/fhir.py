"""Validates with HL7's schema: clients/fhir-r4.schema.json.xz is the JSON schema of FHIR 4.0.1 as HL7 publishes it (CC0)."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs

SCHEMA = Path(__file__).parent / "clients" / "fhir-r4.schema.json.xz"


def fhir_validator() -> Callable[[dict[str, Any]], list[str]]:
    """Returns a function that lists the schema's errors in a resource and in the resources that it contains."""
    schema = json.loads(lzma.decompress(SCHEMA.read_bytes()))
    for definition in schema["definitions"].values():
        if "properties" in definition:
            definition["type"] = "object"  # HL7's schema omits it, so a string would be valid as any resource
    kinds: dict[str, jsonschema_rs.Draft6Validator] = {}

    def errors(resource: dict[str, Any]) -> list[str]:
        # Also validates each contained resource by its own type, because "one of 148 resources" would not say what is wrong.
        found = []
        entries = [entry["resource"] for entry in resource.get("entry", ())]
        for part in (resource, *resource.get("contained", ()), *entries):
            kind = part["resourceType"]
            if kind not in kinds:
                kinds[kind] = jsonschema_rs.Draft6Validator(
                    {"definitions": schema["definitions"], "$ref": f"#/definitions/{kind}"}
                )
            found += [f"{kind} {list(error.instance_path)}: {error.message}" for error in kinds[kind].iter_errors(part)]
        return found

    return errors
