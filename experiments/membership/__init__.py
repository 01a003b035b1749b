"""Who was in the training data: attacks on locked models, by condition."""
