"""Studies: a published claim each, measured on small networks.

A file of this folder is a study: a module with `TITLE`, `SENTENCE` (the claim,
in our words), `DATASETS` and `run(lab) -> list[Figure]`; see
`experiments.studies.base`. `python -m experiments.robustness` runs those that a
config names.
"""

from experiments.studies.base import Figure, Lab, Network, network, share

__all__ = ["Figure", "Lab", "Network", "network", "share"]
