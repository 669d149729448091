"""The project's only decode path: from bytes to checked, upright sRGB pixels to the model's input."""
