"""Bundles on disk: the manifest, the store of versions and the self-check with golden inputs."""
