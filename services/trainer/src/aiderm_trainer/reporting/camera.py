"""Renders the table of training methods tried to keep the camera out of the score, from docs/study/camera.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from aiderm_core.bundle.manifest import Metric
from aiderm_trainer.reporting.render import render
from aiderm_trainer.reporting.tables import Table
from aiderm_trainer.reporting.wording import cell, describe

CAMERA_FILE: Final = "camera.json"


class Method(BaseModel):
    """A training method and its figures, metric -> value; a figure may be given as a number or with its interval."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    figures: dict[str, Metric]
    note: str = ""

    @field_validator("figures", mode="before")
    @classmethod
    def _with_values(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {name: {"value": each} if isinstance(each, int | float) else each for name, each in given.items()}


class CameraStudy(BaseModel):
    """All methods that were tried, on one split.

    Attributes:
        methods: in the order of the table.
        text: what was done and what follows from it, Markdown.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    methods: list[Method]
    text: str = ""


def read_camera_study(file: Path) -> CameraStudy:
    """Reads ``{"methods": [{"name": NAME, "figures": {METRIC: {"value": V, "ci95": [L, H]}}}], "text": TEXT}``.

    Raises:
        ValueError: the file is not of that form.
    """
    try:
        return CameraStudy.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise ValueError(f'{file} must hold {{"methods": [{{"name": NAME, "figures": {{METRIC: VALUE}}}}]}}: {error}') from error


def camera_section(study: CameraStudy) -> str:
    """Renders the section of docs/study.md, with its heading."""
    names = list(dict.fromkeys(name for method in study.methods for name in method.figures))
    rows = [[method.name, *(cell(method.figures.get(name)) for name in names)] for method in study.methods]
    table = Table("Methods tried", ["training method", *(describe(name) for name in names)], rows)
    return render("camera.md.j2", study=study, table_of_methods=table)
