"""Adversarial inputs against the models of a config, for `robustness`."""
