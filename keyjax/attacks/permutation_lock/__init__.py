"""Attacks on permuted kernels."""
