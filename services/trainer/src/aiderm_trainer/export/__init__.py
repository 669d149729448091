"""Combines network, calibration, heatmap and novelty in one graph and writes the bundle."""
