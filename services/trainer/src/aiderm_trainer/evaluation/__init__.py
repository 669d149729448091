"""Evaluates the scores of an exported bundle: metrics with intervals, plots, report and model card."""
