"""The commands of ``aiderm-train``, one file per area. They import TensorFlow when they run, so that --help is fast."""
