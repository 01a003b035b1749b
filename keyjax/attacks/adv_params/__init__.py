"""Attacks on AdvParams and keyed noise."""
