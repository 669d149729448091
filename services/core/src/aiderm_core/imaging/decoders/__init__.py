"""Decoders: one module a format; each returns the first frame as stored, in sRGB on white, before orientation."""
