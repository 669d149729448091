"""Fitting a network: the loss, the loop and its checkpoints."""
