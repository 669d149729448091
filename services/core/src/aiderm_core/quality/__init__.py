"""Image quality: measurements, artefacts on the skin and the rough place of the lesion."""
