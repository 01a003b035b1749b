"""The off-switch gridworld of the experiments against the original."""
