"""Prepares images for training: indexing, duplicates, splitting, synthetic lesions, augmentation and batches."""
