"""Sealed parts of leaves: writing, reading and placing them."""
