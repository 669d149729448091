"""Writes model cards, HTML reports, study documents and plots from the results of the evaluation."""
