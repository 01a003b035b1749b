"""A capability that a key unlocks: tasks, models, attackers, rows.

A public and a restricted task, four models that are taught them, and attackers
who have the file without the key and some demonstrations of the restricted one.
"""
