"""Recipients and identities: one file for each kind."""
