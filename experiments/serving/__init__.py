"""Sealed language models: made, opened, and run with a cache."""
