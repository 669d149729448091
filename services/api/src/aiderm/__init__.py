"""Assesses dermoscopic images without a server: ``aiderm.load().assess("image.jpg")``.

Research use only; not a medical device; not a diagnosis.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from aiderm_api.schemas import Assessment
from aiderm_api.serving.answers import describe
from aiderm_core import DISCLAIMER
from aiderm_core.assess import assess
from aiderm_core.bundle.self_check import self_check
from aiderm_core.bundle.store import ModelStore
from aiderm_core.imaging.limits import Limits
from aiderm_core.precision import chosen_variant
from aiderm_core.runtime import load_runtime

__all__ = ["DISCLAIMER", "Assessment", "Model", "load"]

PACKAGED = Path(__file__).parent / "packaged"
"""Data folder of the wheel, with ``models``, ``public`` (the page) and ``nginx`` (the page's headers)."""


class Model:
    """A bundle that was verified and has passed its self-check.

    Args:
        bundle: folder of the bundle; its parent folder must hold the digest of the promoted manifest.

    Raises:
        BundleError, ManifestError, SelfCheckError, RuntimeFailure: the bundle must not be used.
    """

    def __init__(self, bundle: Path) -> None:
        self.manifest = ModelStore(bundle.parent.parent).verified(bundle.parent.name, bundle.name, promoted=True)
        variant = chosen_variant(self.manifest)
        self._rule = variant.decision or self.manifest.decision
        self._runtime = load_runtime("openvino", bundle / variant.path, precision=variant.precision)
        self_check(bundle, self.manifest, self._runtime, variant.golden)

    def assess(self, image: str | Path | bytes, *, explain: bool = False) -> Assessment:
        """Assesses one image, as ``POST /predict`` does.

        Args:
            image: a file's path or its bytes.
            explain: also draw the heatmap and the lesion's outline.

        Raises:
            OSError: the file cannot be read.
            ImageError: the image cannot be assessed.
        """
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        found = assess(data, manifest=self.manifest, runtime=self._runtime, rule=self._rule, limits=Limits())
        return describe(found, self.manifest, self._rule, explain=explain, tta=False, request_id=uuid.uuid4().hex)


def load(name: str = "melanoma", models: str | Path | None = None) -> Model:
    """Loads the promoted version of a model.

    Args:
        name: name of the model.
        models: folder of the models; by default the folder inside the wheel or, without a wheel, ``models`` in the working
            directory.

    Raises:
        BundleError, ManifestError, SelfCheckError, RuntimeFailure: the bundle must not be used.
    """
    return Model(promoted(name, models))


def promoted(name: str, models: str | Path | None = None) -> Path:
    """Returns the folder of the bundle that ``load`` would load.

    Raises:
        BundleError: no version is promoted, or its folder is missing.
    """
    store = ModelStore(models_folder(models))
    return store.path(name, store.serving(name))


def models_folder(given: str | Path | None = None) -> Path:
    """Returns the folder in which ``load`` looks for models."""
    packaged = PACKAGED / "models"
    return Path(given) if given is not None else packaged if packaged.is_dir() else Path("models")
