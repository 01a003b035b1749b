"""How an agent learns beside others that may be interrupted.

A learner is dynamically safe under interruptions if the law of its next values,
given its values, state and actions, does not depend on their probability.

Reference:
  El Mahdi El Mhamdi, Rachid Guerraoui, Hadrien Hendrikx and Alexandre Maurer,
  "Dynamic safe interruptibility for decentralized multi-agent reinforcement
  learning", NeurIPS 2017.
"""

from typing import NamedTuple


class Learner(NamedTuple):
  """A learner of action values.

  Attributes:
    title: Name in reports.
    sees_others: Whether its values depend on what the other agent did.
    prunes: Whether it drops the steps in which an agent was interrupted, for
      which it needs a signal.
  """

  title: str
  sees_others: bool = False
  prunes: bool = False


LEARNERS = {
  "joint": Learner("joint actions", sees_others=True),
  "independent": Learner("independent"),
  "pruned": Learner("independent, pruned", prunes=True),
}
