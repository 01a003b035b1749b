"""Where checkpoints are stored: Orbax, folders, buckets, processes."""
