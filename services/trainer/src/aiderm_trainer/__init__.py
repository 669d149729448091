"""Turns labelled dermoscopic images into a bundle that the API serves."""
