"""Loading models, queueing and assessing images. Independent of HTTP."""
