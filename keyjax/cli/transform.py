"""`keyjax encrypt` and `keyjax decrypt`."""
