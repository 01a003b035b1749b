"""Looking into locked models."""
