"""Cryptanalytic extraction of a network with one hidden ReLU layer."""
