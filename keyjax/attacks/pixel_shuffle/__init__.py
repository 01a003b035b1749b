"""Attacks on keyed pixel shuffling (SHF, NP, FFX)."""
