"""Exports a bundle as an MLflow model of the ``python_function`` flavour (``aiderm mlflow``), and loads it for MLflow.

MLflow and pandas are needed only where the model is loaded; this package depends on neither.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiderm
from aiderm_core.bundle.store import DIGEST_SUFFIX, SERVING_FILE
from aiderm_core.files import write_text
from aiderm_core.imaging.errors import ImageError

COLUMN = "image"
RESULTS = {"decision": "string", "malignancy": "double", "novelty": "double", "assessment": "string", "problem": "string"}


def export(bundle: Path, out: Path) -> None:
    """Writes a bundle as an MLflow model into a new folder.

    Raises:
        FileExistsError: ``out`` exists.
        OSError: it cannot be written.
    """
    model = out / "models" / bundle.parent.name
    out.mkdir(parents=True)
    shutil.copytree(bundle, model / bundle.name)
    for name in (SERVING_FILE, f"{bundle.name}{DIGEST_SUFFIX}"):
        shutil.copy(bundle.parent / name, model)
    # YAML is a superset of JSON. With these types MLflow's server decodes base64 and refuses strings, which could be paths.
    columns = {"inputs": {COLUMN: "binary"}, "outputs": RESULTS}
    described = {
        "flavors": {
            "python_function": {"loader_module": "aiderm.pyfunc", "data": str((model / bundle.name).relative_to(out))},
        },
        "signature": {
            part: json.dumps([{"name": name, "type": kind, "required": part == "inputs"} for name, kind in names.items()])
            for part, names in columns.items()
        },
    }
    write_text(out / "MLmodel", json.dumps(described, indent=2) + "\n")  # last: without it the folder is not a model


def _load_pyfunc(path: str) -> _Pyfunc:
    """Loads the model; MLflow calls this with the bundle's folder."""
    return _Pyfunc(aiderm.Model(Path(path)))


class _Pyfunc:
    def __init__(self, model: aiderm.Model) -> None:
        self._model = model

    def predict(self, frame: Any, params: object = None) -> Any:
        """Assesses the images of a data frame.

        Args:
            frame: a pandas.DataFrame whose column ``image`` holds files as bytes.
            params: ignored.

        Returns:
            A frame with the same index and the columns of ``RESULTS``: ``assessment`` is JSON with the fields of POST /predict,
            ``malignancy`` is missing if the image was rejected, and ``problem`` says why there is no assessment.
        """
        return type(frame)(self._rows(frame[COLUMN]), columns=list(RESULTS), index=frame.index)

    def _rows(self, images: Sequence[bytes]) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for image in images:
            try:
                found = self._model.assess(bytes(image))
            except ImageError as error:
                rows.append({"problem": str(error)})
                continue
            malignancy = None if found.malignancy is None else found.malignancy.probability
            shown = {"decision": found.decision.value, "malignancy": malignancy, "novelty": found.novelty.score}
            rows.append({**shown, "assessment": found.model_dump_json()})
        return rows
