"""Writes openapi.json from the API's own code and TypeScript's types from that: run it after the API has changed.

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
from aiderm_api.settings import Settings

CLIENTS = Path(__file__).resolve().parent
DOCUMENT = CLIENTS / "openapi.json"
TYPESCRIPT = CLIENTS / "typescript"


def document() -> str:
    """The OpenAPI document of a service with the default settings, as the text of openapi.json."""
    # The defaults themselves: what a developer's environment sets must not show in the repository.
    settings = Settings.model_construct(**{name: field.get_default() for name, field in Settings.model_fields.items()})
    return json.dumps(openapi_document(create_app(settings)), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Writes both files."""
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
