"""Thin routes: parse, call, respond."""
