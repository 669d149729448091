"""BentoML with one worker process per core."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType
from peer_model import CORES, answer, load, prepare


@bentoml.service(workers=CORES, traffic={"timeout": 60}, metrics={"enabled": False})
class Classifier:
    def __init__(self) -> None:
        self.model = load(threads=1)

    @bentoml.api
    def predict(self, file: Annotated[Path, ContentType("image/jpeg")]) -> dict[str, Any]:
        return answer(self.model(prepare(file.read_bytes())))
