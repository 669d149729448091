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
"""What the wheel holds besides code: the folders ``models``, ``public`` (the page) and ``nginx`` (its headers)."""


class Model:
    """A bundle that was verified and has passed its self-check.

    Args:
        bundle: its folder; its model's folder must hold the checksum of the promoted manifest.

    Raises:
        BundleError, ManifestError, SelfCheckError, RuntimeFailure: it must not be used.
    """

    def __init__(self, bundle: Path) -> None:
        self.manifest = ModelStore(bundle.parent.parent).verified(bundle.parent.name, bundle.name, promoted=True)
        variant = chosen_variant(self.manifest)
        self._rule = variant.decision or self.manifest.decision
        self._runtime = load_runtime("openvino", bundle / variant.path, precision=variant.precision)
        self_check(bundle, self.manifest, self._runtime, variant.golden)

    def assess(self, image: str | Path | bytes, *, explain: bool = False) -> Assessment:
        """Assesses one image, as ``POST /predict`` does it.

        Args:
            image: a file's path or its bytes.
            explain: draw the heatmap as well.

        Raises:
            OSError: the file cannot be read.
            ImageError: the image cannot be assessed.
        """
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        found = assess(data, manifest=self.manifest, runtime=self._runtime, rule=self._rule, limits=Limits())
        return describe(found, self.manifest, self._rule, explain=explain, tta=False, request_id=uuid.uuid4().hex)


def load(name: str = "melanoma", models: str | Path | None = None) -> Model:
    """The promoted version of a model.

    Args:
        name: of the model.
        models: folder of the models; those of the wheel when None, and ``models`` in the working directory without a wheel.

    Raises:
        BundleError, ManifestError, SelfCheckError, RuntimeFailure: it must not be used.
    """
    return Model(promoted(name, models))


def promoted(name: str, models: str | Path | None = None) -> Path:
    """The folder of the bundle that ``load`` means.

    Raises:
        BundleError: no version is promoted, or it is not there.
    """
    store = ModelStore(models_folder(models))
    return store.path(name, store.serving(name))


def models_folder(given: str | Path | None = None) -> Path:
    """The folder that ``load`` means."""
    packaged = PACKAGED / "models"
    return Path(given) if given is not None else packaged if packaged.is_dir() else Path("models")
