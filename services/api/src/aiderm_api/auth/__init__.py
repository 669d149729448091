"""API keys, who may call, and rate limits."""
