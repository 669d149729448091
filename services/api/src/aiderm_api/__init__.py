"""HTTP API of the AI Dermatologist: parse, call the core, respond. Research use only; not a medical device."""

from __future__ import annotations

VERSION = "0.1.0"
DISCLAIMER = "Research use only; not a medical device; not a diagnosis."
