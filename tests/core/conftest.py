"""Fixtures for the tests of aiderm_core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiderm_core.bundle.manifest import Manifest


@pytest.fixture(scope="session")
def sound_bundle(tmp_path_factory: pytest.TempPathFactory, make_bundle: Any) -> Path:
    """A complete, promoted bundle that no test may change."""
    bundle: Path = make_bundle(tmp_path_factory.mktemp("sound"))
    return bundle


@pytest.fixture(scope="session")
def manifest(sound_bundle: Path) -> Manifest:
    """The manifest of ``sound_bundle``: threshold 0.5, band 0.4..0.6, novelty limit 1000."""
    return Manifest.load(sound_bundle)
