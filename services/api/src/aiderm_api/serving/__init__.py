"""Loading models, queueing and assessing images. Nothing in here knows HTTP."""
