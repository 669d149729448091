"""Measures how a lesion has changed between two photographs, or explains why the two cannot be compared."""

from aiderm_core.change.comparison import LesionChange, Photograph, compare

__all__ = ["LesionChange", "Photograph", "compare"]
