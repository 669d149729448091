"""The only decode path in the house: bytes -> checked, upright sRGB -> model input."""
