"""Attacks on HPNN."""
