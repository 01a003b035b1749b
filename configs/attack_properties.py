r"""Do locked weights still reveal what the training data were like?

    python -m experiments.attack --config=configs/attack_properties.py \
      --workdir=runs/attack_properties

192 shadow networks and as many targets for each of three properties of the
digits: the digit 7 three times as frequent; none at all, which must show on
plain weights; no difference, which must not. The attacker has files, or the
answers of a service to 100 images, and the networks of the last attacks are
trained with differential privacy (`pip install 'keyjax[privacy]'`). The figures
are in docs/attacks/properties.md. Fewer networks:
`--config.attacks.frequent_plain.trials=48`, and so on for each attack.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  base,
  scheme,
  set_attacks,
  set_schemes,
)

_NETWORKS = 192
_STEPS = 200
_QUERIES = 100
_EPSILONS = {"private": 4.0, "clipped": None}  # The second has no noise.
_PROPERTIES = {
  "frequent": "digit 7 three times as frequent",
  "absent": "no digit 7",
  "chance": "no difference",
}
# What the attacker sees, and labels of the locks where it differs.
_LOCKED = "(?!none).*"  # Of a file without a lock, both are the same.
_SEEN = {
  "plain": ("from plain shadows", ".*"),
  "locked": ("from locked shadows", _LOCKED),
  "known_pair": ("from a known file of the same owner", "chain|counter"),
  "answers": ("from logits of a service", ".*"),
  "labels": ("from labels of a service", ".*"),
  "wrong_key": ("from logits under wrong keys", _LOCKED),
  "no_key": ("from logits of the file as it is", _LOCKED),
}
_FILES = ("plain", "locked", "known_pair")
_PRIVATE = ("plain", "answers", "labels")


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "attack_properties"
  config.dataset = "digits"
  config.model = "mlp"
  config.model_args.hidden = (16,)
  set_schemes(
    config,
    none=scheme("identity", "no lock"),
    chain=scheme("deep_lock", "Deep-Lock, published"),
    counter=scheme(
      "deep_lock", "Deep-Lock, AES counter mode", schedule="counter"
    ),
    keyed_noise=scheme("keyed_noise", "keyed noise"),
    hpnn=scheme("hpnn", "HPNN"),
    shf=scheme("shf", "SHF, M=4", block_size=4),
    np=scheme("np", "NP, M=4", block_size=4),
    ffx=scheme("ffx", "FFX, M=4", block_size=4),
  )
  for name in _PROPERTIES:
    for seen, (_, schemes) in _SEEN.items():
      set_attacks(config, **{f"{name}_{seen}": _judged(name, seen, schemes)})
    for seen in _PRIVATE:
      for label, epsilon in _EPSILONS.items():
        made = _judged(name, seen, "none", epsilon=epsilon)
        set_attacks(config, **{f"{name}_{seen}_{label}": made})
  return config


def _judged(
  name: str, seen: str, schemes: str, **private: float | None
) -> ConfigDict:
  title = f"{_PROPERTIES[name]}, {_SEEN[seen][0]}"
  for epsilon in private.values():
    title += f", epsilon {epsilon:g}" if epsilon else ", clipped, no noise"
  queries = 0 if seen in _FILES else _QUERIES
  return attack(
    "property_inference",
    title,
    schemes=schemes,
    trials=_NETWORKS,
    steps=_STEPS,
    grid=({"property": name, "shadows": seen} | private,),
    queries=queries,
  )
