"""Exceptions turned into RFC 9457 problem documents."""
