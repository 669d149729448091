"""Many fits, one answer: which architecture is better, by how much, and whether that is real."""
