"""Copies of plain and locked models: by queries, by data and recipe, whose."""
