"""The languages of the page, for tests that run in each of them."""

from __future__ import annotations

from pathlib import Path

LOCALES = Path(__file__).resolve().parents[1] / "frontend" / "public" / "locales"
LANGUAGES = sorted(file.stem for file in LOCALES.glob("*.json"))
TRANSLATIONS = [code for code in LANGUAGES if code != "en"]
