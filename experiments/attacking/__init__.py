"""Attacks on locked models: the parts of `experiments.attack`."""
