"""From files and tables to batches: index, split, duplicates, synthetic lesions, augmentation, pipeline."""
