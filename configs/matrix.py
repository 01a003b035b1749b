r"""The attack matrix: every scheme against every attack, on MNIST.

python -m experiments.attack --config=configs/matrix.py \
      --workdir=runs/matrix

193 rows of 13 schemes: 17 minutes on 2 cores of a Xeon, 2026-11-22, and 12
rows more of what trying every key would cost. AdvParams
(98.8 % with its key): 98.8 by clipping or by a licensee's other files, 98.6 by
line search; keyed noise: 38 by line search; Deep-Lock: the key from known
weights or from two licensees' files, none in counter mode; gain of fine-tuning
with 60 images over scratch: HPNN +13, SHF +22, NP +15, FFX +12, Deep-Lock and
keyed noise none; extraction: 96; keys of SHF, NP and FFX from 100 transformed
images.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  mnist,
  scheme,
  set_attacks,
  set_schemes,
)

_TUNE = (
  {"optimizer": "adam", "learning_rate": 1e-3},
  {"optimizer": "sgd", "learning_rate": 3e-2},
)
_BALL = tuple({"epsilon": 0.2, "momentum": m} for m in (0.0, 1.0))
# Small blocks are there for exhaustive search.
_LARGE = "(?!.*_m2).*"
_FRACTIONS = {"0.1 %": 0.001, "1 %": 0.01, "10 %": 0.1}


def get_config() -> ConfigDict:
  """Return the config."""
  config = mnist("matrix")
  config.train.epochs = 2.0
  config.num_test = 2500
  set_schemes(
    config,
    none=scheme("identity", "no lock"),
    deep_lock=scheme("deep_lock", "Deep-Lock, float32"),
    deep_lock_int8=scheme("deep_lock", "Deep-Lock, int8", int8=True),
    counter=scheme(
      "deep_lock", "Deep-Lock, AES counter mode", schedule="counter"
    ),
    adv_params=scheme(
      "adv_params", "AdvParams", theta=0.5, loss_threshold=1000.0
    ),
    adv_bounded=scheme(
      "adv_params",
      "AdvParams inside the layer's range",
      theta=0.3,
      beta=0.1,
      loss_threshold=1000.0,
    ),
    keyed_noise=scheme("keyed_noise", "keyed noise"),
    hpnn=scheme("hpnn", "HPNN"),
    shf=scheme("shf", "SHF, M=4", block_size=4),
    np=scheme("np", "NP, M=4", block_size=4),
    ffx=scheme("ffx", "FFX, M=4", block_size=4),
    # One channel and M=2: 24 keys and 4.
    shf_m2=scheme("shf", "SHF, M=2", block_size=2),
    np_m2=scheme("np", "NP, M=2", block_size=2),
  )
  tuning = {}
  two = {"fraction": 0.02, "steps": 300}
  for i, (name, share) in enumerate(_FRACTIONS.items()):
    few = {"fraction": share, "steps": 120, "points": 3, "grid": _TUNE}
    tuning |= {
      f"tune_{i}": attack(
        "fine_tune", f"fine-tuning, {name}", schemes=_LARGE, **few
      ),
      f"scratch_{i}": attack(
        "scratch", f"from scratch, {name}", schemes="none", **few
      ),
    }
    if i < 2:
      tuning[f"licence_{i}"] = attack(
        "fine_tune_keyed",
        f"a licensee's fine-tuning, {name}",
        schemes="(?!none|.*_m2).*",  # Plain is fine-tuning without a lock.
        has_key=True,
        **few,
      )
  set_attacks(
    config,
    **tuning,
    guess=attack(
      "random_keys",
      "random keys",
      schemes=_LARGE,
      images=128,
      steps=32,
      points=3,
    ),
    price=attack("search_cost", "trying every key"),
    exhaust=attack("exhaust", "every key, 16 images", images=16, steps=100),
    extract=attack(
      "extract",
      "extraction by queries",
      schemes=_LARGE,
      images=3000,
      queries=3000,
      steps=200,
      points=3,
      grid=({"learning_rate": 3e-3},),
    ),
    labels=attack(
      "scratch",
      "from scratch, the queried images with their labels",
      schemes="none",
      images=3000,
      steps=200,
      points=3,
      grid=({"learning_rate": 3e-3},),
    ),
    distil=attack(
      "extract_keyed",
      "a licensee's distillation",
      schemes="hpnn|counter",
      images=3000,
      has_key=True,
      steps=200,
      points=3,
      grid=({"learning_rate": 3e-3},),
    ),
    known=attack(
      "known_plaintext",
      "4 known weights",
      schemes="deep_lock|counter",
      known_weights=4,
      known_leaf="params/conv_1/kernel",
      trials=40,
    ),
    known_int8=attack(
      "known_plaintext",
      "19 known int8 weights",
      schemes="deep_lock_int8",
      known_weights=19,
      known_leaf="params/conv_1/kernel/values",
      trials=40,
    ),
    zeros=attack("constant_leaves", "zero biases, unit scales"),
    base=attack("base_model", "a public base model", has_base=True),
    pad=attack("two_time_pad", "two-time pad", has_base=True, copies=1),
    sign=attack("flip_sign", "flip a weight's sign"),
    noise=attack("three_words", "locked or noise?", trials=40),
    clip=attack("clip_outliers", "clip outliers"),
    twice=attack("drop_duplicates", "drop duplicates"),
    prune=attack("prune_largest", "prune the largest"),
    nearest=attack("nearest_base", "compare with a base model", has_base=True),
    search=attack("line_search", "line search", images=500, steps=48, points=4),
    sparse=attack(
      "sparse_tune", "sparse tuning", images=500, steps=120, points=3
    ),
    signs=attack("hpnn_statistics", "signs from weights alone"),
    **_signs(),
    relax_oracle=attack(
      "hpnn_relax_oracle",
      "relaxed key, 64 queries",
      images=64,
      queries=64,
      steps=300,
    ),
    algebra=attack(
      "hpnn_algebraic", "algebra, 64 queries", images=64, queries=64, steps=200
    ),
    jigsaw=attack(
      "pixel_jigsaw",
      "100 transformed images",
      schemes=_LARGE,
      fraction=0.02,
      ciphertexts=100,
      has_locked=False,
      steps=30,
      points=1,
    ),
    sinkhorn=attack("pixel_sinkhorn", "Sinkhorn", schemes=_LARGE, **two),
    gates=attack("pixel_gates", "relaxed mask", schemes=_LARGE, **two),
    table=attack("pixel_table", "a table", schemes=_LARGE, **two),
    front=attack("pixel_conv", "a free convolution", schemes=_LARGE, **two),
    climb=attack(
      "pixel_climb", "climbing", schemes=_LARGE, fraction=0.02, steps=1200
    ),
    **_others(),
  )
  return config


def _others() -> dict[str, ConfigDict]:
  """Return collusion, and adversarial images for the owner's model."""
  misled = {"schemes": _LARGE, "victims": 200, "steps": 30, "points": 3}
  return {
    "licensees": attack(
      "collude",
      "3 licensees",
      schemes="adv_params|keyed_noise",
      licensees=3,
    ),
    "shared": attack(
      "collude_weights",
      "3 licensees: weights",
      schemes="adv_params|keyed_noise|counter",
      licensees=3,
    ),
    "schedules": attack(
      "schedule_difference", "two licensees", trials=20, licensees=1
    ),
    "owner": attack(
      "transfer_with_key",
      "misled with the key",
      has_key=True,
      grid=_BALL,
      **misled,
    ),
    "misled": attack(
      "transfer_stolen", "misled by the file", grid=_BALL, **misled
    ),
    "asked": attack(
      "transfer_surrogate",
      "misled by 1,200 queries",
      images=1200,
      queries=1200,
      grid=_BALL,
      **misled,
    ),
    "any_key": attack(
      "transfer_keys", "misled by random keys", grid=_BALL, **misled
    ),
    "random_signs": attack(
      "transfer_noise",
      "random signs",
      schemes=_LARGE,
      victims=200,
      grid=({"epsilon": 0.2},),
    ),
  }


def _signs() -> dict[str, ConfigDict]:
  """Return HPNN's searches by labels, without and with its schedule."""
  made = {}
  for label, name, title, setting in (
    (
      "relax",
      "hpnn_relax",
      "relaxed key",
      {"steps": 300, "grid": ({}, {"starts": 3})},
    ),
    ("greedy", "hpnn_greedy", "greedy flips", {"steps": 800}),
    (
      "genetic",
      "hpnn_genetic",
      "genetic search",
      {"steps": 800, "grid": ({"population": 32},)},
    ),
  ):
    for known in (False, True):
      made[label + "_known" * known] = attack(
        name,
        f"{title}, 2 % of the labels" + ", known schedule" * known,
        fraction=0.02,
        points=4,
        schedule=known,
        **setting,
      )
  return made
