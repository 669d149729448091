"""The code that trainer, API and scorer share: decoding, bundles, runtimes and the decision."""

DISCLAIMER = "Research use only; not a medical device; not a diagnosis."
