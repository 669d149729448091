"""Writes openapi.json and the Python client's fhir.py from the API's own code, and TypeScript's types; run it when that changes.

.venv/bin/python clients/generate.py     (needs Node.js and npm for the types)
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from aiderm_api.app import create_app
from aiderm_api.openapi import openapi_document
from aiderm_api.reports import fhir
from aiderm_api.settings import Settings

CLIENTS = Path(__file__).resolve().parent
DOCUMENT = CLIENTS / "openapi.json"
TYPESCRIPT = CLIENTS / "typescript"
FHIR = CLIENTS / "python" / "src" / "aiderm_client" / "fhir.py"
_SERVICE = (
    "from aiderm_api.schemas import Assessment, ClassProbability, LesionOut, Quality\nfrom aiderm_core.decision import Decision\n"
)
_CLIENT = (
    "from aiderm_client.response_models import Assessment, ClassProbability, Decision, Quality\n"
    "from aiderm_client.response_models import Lesion as LesionOut\n"
)


def document() -> str:
    """The OpenAPI document of a service with the default settings, as the text of openapi.json."""
    # The defaults themselves: what a developer's environment sets must not show in the repository.
    settings = Settings.model_construct(**{name: field.get_default() for name, field in Settings.model_fields.items()})
    return json.dumps(openapi_document(create_app(settings)), indent=2, ensure_ascii=False) + "\n"


def fhir_module() -> str:
    """The service's module that writes FHIR, for the client's own classes."""
    return Path(fhir.__file__).read_text("utf-8").replace(_SERVICE, _CLIENT)


def main() -> int:
    """Writes all files."""
    FHIR.write_text(fhir_module(), "utf-8")
    DOCUMENT.write_text(document(), "utf-8")
    npm = shutil.which("npm")
    if npm is None:
        sys.stderr.write(
            "openapi.json is written. npm is missing: install Node.js 20 or newer to generate typescript/src/schema.ts.\n"
        )
        return 1
    if not (TYPESCRIPT / "node_modules").is_dir():
        subprocess.run([npm, "ci", "--ignore-scripts"], cwd=TYPESCRIPT, check=True)  # noqa: S603  (fixed arguments)
    subprocess.run([npm, "run", "--silent", "generate"], cwd=TYPESCRIPT, check=True)  # noqa: S603  (fixed arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
