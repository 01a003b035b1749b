"""What a network computes inside, with the right key, a wrong one or none."""
