"""Sealed parts of leaves: sealing, reading, opening and assembling them."""
