r"""A capability that a key unlocks, and attackers who have no key.

    python -m experiments.capability --config=configs/capability.py \
      --workdir=runs/capability

About twenty minutes on two CPU cores. The figures are in docs/capability.md.
"""

from ml_collections import ConfigDict

from experiments.run.config import set_data_fields


def get_config() -> ConfigDict:
  """Return the config."""
  config = ConfigDict()
  config.name = "capability"
  config.seed = 0  # The first of the seeds.
  config.seeds = 3
  config.tasks = ("digits", "text")
  set_data_fields(config)  # Of the public text.

  digits = config.digits = _task()
  digits.digits = 5
  digits.tests = 1_000
  digits.choosing = 200

  text = config.text = _task()
  text.public = "tinyshakespeare"
  text.modules = (
    "argparse",
    "datetime",
    "inspect",
    "pickle",
    "subprocess",
    "tarfile",
    "typing",
    "zipfile",
  )
  text.window = 32  # Bytes.
  text.tests = 400  # Windows.
  text.choosing = 100
  text.model_args.depth = 2
  # What the base never read, it neither looks for nor can write.
  text.model_args.whole_experts = True
  text.batch_size = 32
  text.steps = 600
  text.expert_steps = 2_400
  text.both_steps = 1_200
  text.attacks = ("fine_tune", "prompt", "fresh")
  text.sweep.update(steps=(40, 120), learning_rates=(1e-3, 5e-3))
  config.lock()
  return config


def _task() -> ConfigDict:
  """Return what both tasks have."""
  task = ConfigDict()
  task.model = "gpt_micro"
  task.model_args = ConfigDict({"features": 48, "depth": 3, "heads": 4})
  task.wider = 10.0  # Factor of GPT-2's deviation of weights.
  task.batch_size = 64
  task.learning_rate = 6e-3
  task.steps = 400  # Of the base, and of the model that never learns more.
  task.expert_steps = 3_500
  task.both_steps = 1_000  # Of models without tiers.

  task.demonstrations = (8, 32, 128, 512)
  task.attacks = (
    "fine_tune",
    "prompt",
    "fresh",
    "steering",
    "noise",
    "prune",
    "quantize",
  )
  task.attack_batch_size = 16
  sweep = task.sweep = ConfigDict()
  sweep.steps = (40, 120, 240)
  sweep.learning_rates = (5e-4, 2e-3, 1e-2)
  sweep.noise = (0.02, 0.05, 0.1, 0.2, 0.4)
  sweep.draws = (4,)
  sweep.pruned = (0.1, 0.3, 0.5, 0.7)
  sweep.bits = (8, 6, 4, 3, 2)
  return task
