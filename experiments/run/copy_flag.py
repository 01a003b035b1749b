"""The flag of commands whose rows are quoted by a document."""

from absl import flags

COPY = flags.DEFINE_string(
  "copy", "", "A file for the rows that a document quotes."
)
