"""Model cards, HTML reports, study documents and plots, from the numbers that the evaluation found."""
