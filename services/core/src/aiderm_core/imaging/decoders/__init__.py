"""Decoders, one module per format. Each returns the first frame in sRGB on white, before the orientation is applied."""
