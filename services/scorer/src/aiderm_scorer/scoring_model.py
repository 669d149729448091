"""Packages the model that assesses images (bundle, precision and limits) for processes here or on other machines."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import BundleError, verify
from aiderm_core.imaging.limits import Limits
from aiderm_core.precision import chosen_variant
from aiderm_core.runtime import Precision


@dataclass(frozen=True)
class Model:
    """A verified bundle.

    Attributes:
        manifest: of the bundle.
        bundle: its folder, or its files as a tar.
        precision: of the variant that runs.
        limits: on the size of an image.
    """

    manifest: Manifest
    bundle: Path | bytes
    precision: Precision = "f32"
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def load(cls, bundle: Path, precision: str = "auto", limits: Limits | None = None, manifest: Manifest | None = None) -> Self:
        """Verifies a bundle and chooses a variant of it.

        Args:
            bundle: its folder.
            precision: of the variant, or ``auto``, see ``chosen_variant``.
            limits: on the size of an image.
            manifest: of the bundle, if it has been verified already.

        Raises:
            BundleError: it is damaged.
            ManifestError: it has no such variant.
        """
        manifest = manifest or verify(bundle)
        return cls(manifest, bundle.resolve(), chosen_variant(manifest, precision).precision, limits or Limits())

    def packed(self) -> Self:
        """Returns a copy that contains the bundle's files, for machines that do not see the folder."""
        if isinstance(self.bundle, bytes):
            return self
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(self.bundle, ".")
        return replace(self, bundle=buffer.getvalue())

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """Yields the bundle's folder, which exists as long as the block runs.

        Raises:
            BundleError: the files that arrived here are damaged.
        """
        if isinstance(self.bundle, Path):
            yield self.bundle
            return
        with tempfile.TemporaryDirectory(prefix="aiderm-") as name:
            with tarfile.open(fileobj=io.BytesIO(self.bundle)) as archive:
                archive.extractall(name, filter="data")
            if verify(Path(name)) != self.manifest:
                raise BundleError(f"what arrived here is not {self.manifest.name} {self.manifest.version} as it was sent")
            yield Path(name)
