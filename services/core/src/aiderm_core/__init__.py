"""What trainer, API and scorer must agree on: decoding, bundles, runtimes and the decision."""

DISCLAIMER = "Research use only; not a medical device; not a diagnosis."
