"""Defines the base class of everything that report.json holds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ReportPart(BaseModel):
    """Immutable model that refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
