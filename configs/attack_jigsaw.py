r"""Images restored from their ciphertexts alone: no model, no key, no label.

    python -m experiments.attack --config=configs/attack_jigsaw.py \
      --workdir=runs/attack_jigsaw

`--config.dataset=cifar10` takes another data set; for one with fewer than 2,000
training images, lower the number of ciphertexts of each row, for instance
`--config.attacks.model_1000.attacker.ciphertexts`. The figures are in
docs/attacks/pixel_shuffle.md. Each row holds the share of the key's positions,
and in `details` the share of pixels and the PSNR of restored images;
WORKDIR/restored.png shows some. The network is trained for one step, since the
attack does not look at it.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  base,
  scheme,
  set_attacks,
  set_schemes,
)

_COUNTS = (1, 10, 100, 1000)
_OWN = 1000  # Images of the attacker's, for SHF's second template.


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "attack_jigsaw"
  config.dataset = "mnist"
  config.model = "mlp"
  config.train.batch_size = 8
  config.train.epochs = 1e-6  # One step.
  set_schemes(
    config,
    shf=scheme("shf", "SHF, M=4", block_size=4),
    np=scheme("np", "NP, M=4", block_size=4),
    ffx=scheme("ffx", "FFX, M=4", block_size=4),
    shf_m2=scheme("shf", "SHF, M=2", block_size=2),
  )
  for count in _COUNTS:
    held = {
      "steps": 5,
      "points": 1,
      "has_locked": False,
      "ciphertexts": count,
    }
    picture = count in (1, 10)
    images = f"{count:,} image{'s' * (count > 1)}"
    set_attacks(
      config,
      **{
        f"model_{count}": attack(
          "pixel_jigsaw",
          images,
          grid=({"template": "model"},),
          picture=picture,
          **held,
        ),
        f"own_{count}": attack(
          "pixel_jigsaw",
          f"{images}, and {_OWN:,} of the attacker's own",
          schemes="shf.*",
          grid=({"template": "images"},),
          picture=picture,
          images=_OWN,
          **held,
        ),
      },
    )
  return config
