"""Attacks on locks; importing this registers them all."""

from keyjax.attacks.locks import deep_lock, extract, fine_tune

__all__ = ["deep_lock", "extract", "fine_tune"]
