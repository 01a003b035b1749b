"""Attacks on locks; importing this registers them all."""

from keyjax.attacks.locks import extract, fine_tune

__all__ = ["extract", "fine_tune"]
