r"""Does a key stop adversarial images, and does a lock survive two licensees?

python -m experiments.attack --config=configs/attack_transfer.py \
      --workdir=runs/attack_transfer

2 cores of a Xeon shared with other jobs, two sessions, 2026-11-22; the figures
are in docs/attacks/transfer.md. At epsilon 0.2: all images with the key, 79 %
with the stolen file of FFX, 75 % with the mean over random keys of SHF, 21 to
62 % with a fresh model. Two licensees undo AdvParams, and find the master key
of Deep-Lock's published schedule.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  mnist,
  scheme,
  set_attacks,
  set_schemes,
)

# A lock of weights opens to the plain model, whose rows are those of `none`.
_OWNERS = "none|hpnn|shf|np|ffx"
_LOCKS = "none|adv_params|keyed_noise|counter|hpnn|shf|np|ffx"
_QUERIES = {"images": 1200, "queries": 1200}
_MISLED = {
  "with_key": ("transfer_with_key", "with the key", _OWNERS, {"has_key": True}),
  "stolen": ("transfer_stolen", "the stolen file", _LOCKS, {}),
  "noise": ("transfer_noise", "random signs", _OWNERS, {}),
}
_TRAINED = {
  "tuned": (
    "transfer_tuned",
    "fine-tuned, 600 images",
    _LOCKS,
    {"images": 600},
  ),
  "fresh": (
    "transfer_surrogate",
    "fresh, 600 images",
    _OWNERS,
    {"images": 600},
  ),
  "asked": ("transfer_surrogate", "fresh, 1,200 queries", _OWNERS, _QUERIES),
  "keys": ("transfer_keys", "mean over random keys", _OWNERS, {}),
}


def get_config() -> ConfigDict:
  """Return the config."""
  config = mnist("attack_transfer")
  config.train.epochs = 2.0
  set_schemes(
    config,
    none=scheme("identity", "no lock"),
    keyed_noise=scheme("keyed_noise", "keyed noise"),
    deep_lock=scheme("deep_lock", "Deep-Lock"),
    counter=scheme(
      "deep_lock", "Deep-Lock, AES counter mode", schedule="counter"
    ),
    hpnn=scheme("hpnn", "HPNN"),
    shf=scheme("shf", "SHF, M=4", block_size=4),
    np=scheme("np", "NP, M=4", block_size=4),
    ffx=scheme("ffx", "FFX, M=4", block_size=4),
    adv_params=scheme(
      "adv_params", "AdvParams", theta=0.5, loss_threshold=1000.0
    ),
  )
  attacks = {}
  for epsilon, played in ((0.1, _MISLED), (0.2, _MISLED | _TRAINED)):
    for label, (name, title, schemes, holds) in played.items():
      momenta = () if label == "noise" else (0.0, 1.0)
      grid = tuple({"epsilon": epsilon, "momentum": m} for m in momenta)
      attacks[f"{label}_{10 * epsilon:.0f}"] = attack(
        name,
        f"{title}, epsilon {epsilon}",
        schemes=schemes,
        steps=30,
        points=3,
        victims=200,
        grid=grid or ({"epsilon": epsilon},),
        **holds,
      )
  set_attacks(
    config,
    **attacks,
    licensees=attack(
      "collude", "8 licensees", schemes="keyed_noise", licensees=8
    ),
    licensees_few=attack(
      "collude", "3 licensees", schemes="adv_params", licensees=3
    ),
    weights=attack(
      "collude_weights",
      "weights, 3 licensees",
      schemes="adv_params",
      licensees=3,
    ),
    weights_8=attack(
      "collude_weights",
      "weights, 8 licensees",
      schemes="(?!adv_params).*",
      licensees=8,
    ),
    two_schedules=attack("schedule_difference", "two licensees", licensees=1),
    two_schedules_games=attack(
      "schedule_difference", "two licensees: 50 games", trials=50, licensees=1
    ),
  )
  return config
