"""Attacks on Deep-Lock."""
