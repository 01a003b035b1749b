"""Parts of `experiments.table`, which joins several runs of one config."""
