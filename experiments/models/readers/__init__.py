"""Readers of files of weights: one file a format."""
