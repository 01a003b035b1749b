"""Attacking locked models."""
