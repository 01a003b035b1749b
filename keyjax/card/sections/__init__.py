"""The sections of a card that scores are in, one file each.

Each says which rows are its own (`is_row`), and what a card keeps of them
(`entry`, or `entries` where rows are compared).
"""
