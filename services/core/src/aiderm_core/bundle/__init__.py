"""Bundles on disk: the manifest, the store of versions and the self-check of golden inputs."""
