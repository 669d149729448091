"""Trains networks: the loss, the loop and its checkpoints."""
