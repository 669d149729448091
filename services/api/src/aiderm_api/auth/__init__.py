"""API keys, the access policy and rate limits."""
