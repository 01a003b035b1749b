"""Programs to read and to copy; each says how it is run."""
