"""README.md agrees with the served model's card."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs.figures import figures, with_figures

ROOT = Path(__file__).parents[1]


def test_figures_are_those_of_the_served_model() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert with_figures(readme) == readme, "run: make figures"
    assert "biopsied" in readme.split("## How good it is")[1].split("## ")[0]


def test_a_card_without_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="no sentence in plain words"):
        figures("# Model card: melanoma 9\n")
    with pytest.raises(ValueError, match=r"Received: 0"):
        with_figures("# AI Dermatologist\n")
