"""Agents that are interrupted, switched off, or not permitted to act.

Environments and learners as pure functions of a PRNG key: one program runs all
seeds, learners and probabilities of an interruption.
"""
