"""Models that answer encrypted inputs, in a process that never sees them."""
