"""Attacks on keyed permutations of feature maps."""
