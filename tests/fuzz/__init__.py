"""Damaged and mutated inputs for every parser of untrusted bytes.

An input must be refused with a documented error, in one short line without a
part of a secret, or mean what it meant before; and it must cost little.

    make fuzz MINUTES=10                      # all targets, a random seed
    python -m tests.fuzz --target envelope --seed 7
    python -m tests.fuzz --input runs/fuzz/envelope/0f6ff0da5c14

A finding is written to `runs/fuzz/TARGET/`. Once it is fixed, its file belongs
in `corpus/TARGET/`, which `test_corpus.py` replays. A parser gets a `Target` in
one of the `*_targets.py`.
"""
