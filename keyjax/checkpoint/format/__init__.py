"""The sealed format: manifest, layout, tree structure and signature."""
