"""Where work runs: worker processes on this machine, or the nodes of a Ray cluster. Used by the scorer and by studies."""
