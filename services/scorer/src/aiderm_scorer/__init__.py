"""Scores archives of dermoscopic images in the same way as the API and writes a Parquet table."""
