"""Membership attacks: against their references, and models side by side."""
