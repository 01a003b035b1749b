"""Steps of a run: what a `Manager` saves in each, and how it is read."""
