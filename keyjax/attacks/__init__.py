"""What an attacker runs against a lock."""
