"""The project's only decode path: bytes -> checked, upright sRGB -> model input."""
