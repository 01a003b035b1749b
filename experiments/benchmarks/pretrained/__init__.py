"""Models that nobody here trained, against the programs that they are for."""
