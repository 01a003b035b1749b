"""What an attacker runs against a lock, by what it attacks."""
