"""What `experiments.table` makes of several runs of one config."""
