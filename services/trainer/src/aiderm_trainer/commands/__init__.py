"""The commands of ``aiderm-train``, a file for each part of the work. TensorFlow is imported inside of them: help needs none."""
