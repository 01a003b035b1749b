"""Attacks that apply to any scheme."""
