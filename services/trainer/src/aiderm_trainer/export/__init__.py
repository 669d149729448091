"""Folds network, calibration, heatmap and novelty into one graph and writes the bundle."""
