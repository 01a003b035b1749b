r"""Do locked weights still reveal what the training data were like?

    python -m experiments.attack --config=configs/attack_properties.py \
      --workdir=runs/attack_properties

192 shadow networks and as many targets for each of three properties of the
digits: the digit 7 three times as frequent; none at all, which must show on
plain weights; no difference, which must not. The figures are in
docs/attacks/properties.md. Fewer networks:
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
_PROPERTIES = {
  "frequent": "digit 7 three times as frequent",
  "absent": "no digit 7",
  "chance": "no difference",
}
_SHADOWS = {
  "plain": "plain shadows",
  "locked": "locked shadows",
  "known_pair": "a known file of the same owner",
}
_SCHEMES = {"plain": ".*", "known_pair": "chain|counter"}


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
  )
  for name, title in _PROPERTIES.items():
    for shadows in _SHADOWS:
      made = attack(
        "property_inference",
        f"{title}, from {_SHADOWS[shadows]}",
        # Of a file without a lock, both are the same.
        schemes=_SCHEMES.get(shadows, "(?!none).*"),
        trials=_NETWORKS,
        steps=_STEPS,
        grid=({"property": name, "shadows": shadows},),
      )
      set_attacks(config, **{f"{name}_{shadows}": made})
  return config
