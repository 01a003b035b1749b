"""Protecting a model: lock, ship, restore and evaluate."""
