"""Flags of commands that run what is out of date in a document."""

from absl import flags

SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=3)
LIST = flags.DEFINE_bool("list", False, "Only say what is out of date.")
RUNS = flags.DEFINE_string("runs", "runs", "Folder for runs, which resume.")
