"""Image quality: measurements, artefacts on the skin and the rough position of the lesion."""
