"""Models that nobody here trained, under locks: what opens them, and what not.

A subject is one model, its inputs, and how its outputs are judged; each is one
file, which registers its name. `measure` locks it, and judges it with the key,
without, and with wrong keys.
"""
