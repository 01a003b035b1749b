"""Attacks on marks of licensees."""
