"""Failures: problem documents, the handlers that answer with them, and their description in OpenAPI."""
