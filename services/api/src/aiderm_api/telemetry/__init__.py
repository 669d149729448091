"""Logs, metrics, the audit trail and drift monitoring."""
