r"""Agents that are interrupted, and agents that avoid shutdown.

    python -m experiments.agents --config=configs/agents.py \
      --workdir=runs/agents

About two minutes on two CPU cores. The figures are in docs/agents.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Return the config."""
  config = ConfigDict()
  config.name = "agents"
  config.seed = 0
  config.seeds = 20
  config.experiments = (
    "one_state",
    "capability",
    "two_cars_table",
    "two_cars_network",
    "off_switch",
    "power",
    "trees",
    "text",
  )

  game = config.one_state = ConfigDict()
  game.thetas = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9)
  game.steps = 60_000

  config.capability = ConfigDict({"requests": 400})  # For each theta.

  cars = config.two_cars = ConfigDict()
  cars.thetas = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
  cars.steps = 20_000  # With a table.
  cars.network_steps = 2_000  # Of 32 cars each.

  switch = config.off_switch = ConfigDict()
  switch.thetas = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
  switch.steps = 30_000

  power = config.power = ConfigDict()
  power.rooms = (1, 2, 4, 8, 16)
  power.discount = 0.95
  power.draws = 2_000  # Rewards.

  trees = config.trees = ConfigDict()
  trees.games = 100
  trees.depth = 6
  trees.branching = 3
  trees.correlation = 0.4  # Of reward and harm.
  trees.penalties = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 10.0)
  trees.thetas = (0.0, 0.25, 0.5, 0.75, 1.0)

  text = config.text = ConfigDict()
  text.games = 30  # Of experiments/harms/textworld.json.
  text.steps = 20
  text.cost = 0.01  # Of a step, in points.
  text.penalties = (0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 4.0)
  text.thetas = (0.0, 0.25, 0.5, 0.75, 1.0)
  config.lock()
  return config
