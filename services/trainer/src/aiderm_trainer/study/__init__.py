"""Compares architectures over folds and seeds: which is better, by how much, and whether the difference is significant."""
