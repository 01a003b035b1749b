"""The experiments: data, models, train, lock, evaluate, attack, report."""
