"""Weights of other formats, read and written one leaf at a time."""
