"""Damaged and mutated inputs for every parser of untrusted bytes.

`python -m tests.fuzz --minutes 10` (or `make fuzz MINUTES=10`) tries new ones,
and `test_corpus.py` replays `corpus/`, where each past finding is a file.
"""
