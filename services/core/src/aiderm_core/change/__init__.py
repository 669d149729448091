"""Has a lesion changed between two photographs? Registration, growth, colour, and when two photographs cannot be compared."""

from aiderm_core.change.comparison import LesionChange, Photograph, compare

__all__ = ["LesionChange", "Photograph", "compare"]
