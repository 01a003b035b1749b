"""Interpretation of locked models."""
