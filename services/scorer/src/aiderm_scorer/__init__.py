"""Scores archives of dermoscopic images: the same path as the API's, into a Parquet table."""
