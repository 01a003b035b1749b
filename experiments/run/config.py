"""The configuration of a run: every field, its default and its meaning.

A file in `configs/` starts from `base()` and changes what differs. The result
is locked: a misspelled field is an error that names the field. Configs hold no
key material; secrets come from the operating system (`experiments.main`).
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict


class ConfigArgumentError(Exception):
  """Missing or unknown word after the colon in `--config=FILE:WORD`.

  Not a ValueError: ml_collections would turn that into a traceback.
  """


def base() -> ConfigDict:
  """Return the defaults."""
  config = ConfigDict()
  config.name = ""  # Name of the run in rows and reports.

  config.dataset = "digits"  # See experiments.data.names().
  set_data_fields(config)
  config.text = ""  # File of dataset "text".
  config.context = 64  # Tokens per example of a text.
  # Tokens of a text: a file of a tokenizer, or package:NAME; empty: bytes.
  config.tokenizer = ""
  config.image_size = 224  # Of imagenet2012, which is streamed.
  # Shape and classes of dataset "fake": random numbers, for measuring speed. A
  # shape such as (64,) makes text.
  config.fake = ConfigDict({"shape": (32, 32, 3), "classes": 10})
  config.num_train = 0  # Number of training images; 0: all.
  config.num_test = 0  # Number of test images; 0: all.

  config.model = "cnn"  # See experiments.models.create.
  config.model_args = ConfigDict(convert_dict=False)
  # What to start from: a file of public weights, or package:NAME. With
  # train.epochs = 0 the plain model has these weights; empty: random ones.
  config.weights = ""

  train = config.train = ConfigDict()
  train.batch_size = 128  # Over all devices.
  train.epochs = 5.0  # 0: the weights of `weights`, as they are.
  train.optimizer = "adam"  # adam, adamw or sgd (momentum 0.9).
  train.learning_rate = 2e-3  # Peak.
  train.schedule = "cosine"  # cosine, triangle (0 -> peak -> 0) or constant.
  train.warmup = 0.05  # Share of the steps; only for cosine.
  train.weight_decay = 0.0
  train.decay_leaves = ".*"  # Regex of leaves that decay, as `conv_0/kernel`.
  train.clip = 0.0  # Largest norm of the gradient; 0: no limit.
  train.ema = 0.0  # Decay of averaged params, which are then used; 0: none.
  train.label_smoothing = 0.0
  train.pad = 0  # Random shifts by up to this many pixels.
  train.flip = False  # Random mirror images.
  train.cutout = 0  # Side of a black square in every image.
  train.mixup = 0.0  # Images mixed in shares from Beta(mixup, mixup); 0: none.
  train.dtype = "float32"  # Or bfloat16; only of the computation.
  train.accumulate = 1  # Parts of a batch, computed one at a time.
  train.remat = False  # Recompute each block in the backward pass.
  train.seed = 0  # Of initial weights, order and augmentation.
  train.parallel = "pmap"  # pmap, shard_map or fsdp.
  train.log_every = 50  # Steps.
  train.checkpoint_every = 500  # Steps.
  train.keep = 2  # Number of checkpoints.
  train.threads = 0  # Threads that prepare batches ahead; 0: none.
  train.prefetch = 2  # Batches copied to the devices ahead; 0: none.
  train.profile = (0, 0)  # First and last step to trace, from 1.

  lora = train.lora = ConfigDict()  # See experiments.training.lora.
  lora.rank = 0  # Of the adapters that train instead of `weights`; 0: none.
  lora.layers = ".*kernel"  # Regex of the kernels that get one.

  defense = train.defense = ConfigDict()  # See experiments.training.defense.
  defense.name = ""  # fgsm, pgd, fast, trades, noise, ...; empty: none.
  defense.epsilon = 0.1  # Largest change; of fgsm, pgd, fast and trades.
  defense.norm = "linf"  # Of the same: linf, l2 or l1.
  defense.steps = 7  # Of pgd and trades.
  defense.share = 0.5  # Weight of unchanged inputs; of fgsm.
  defense.beta = 6.0  # Weight of the divergence; of trades.
  defense.sigma = 0.25  # Standard deviation of noise.
  defense.draws = 16  # Noisy copies that a prediction averages; of noise.
  defense.levels = 2  # Values of a pixel; of discrete.
  defense.temperature = 100.0  # Of distilled.
  defense.weight = 4.0  # Of saturated, at the end; it grows from 0.

  dp = train.dp = ConfigDict()  # Privacy: see experiments.training.dp.
  dp.on = False
  dp.epsilon = 0.0  # What training may spend; or, instead:
  dp.noise_multiplier = 0.0  # Deviation of the noise, in units of clip.
  dp.delta = 1e-5  # Well below 1 / training examples.
  dp.clip = 1.0  # Largest norm of an example's gradient.
  dp.truncate = 0  # Largest batch; 0: 1.5 times train.batch_size.
  dp.noise = "aes"  # Generator: aes or jax.

  encrypt = config.encrypt = ConfigDict()  # Of training checkpoints.
  encrypt.recipients = ""  # Public keys, by commas; empty: plain.
  encrypt.identity = ""  # file:PATH, env:NAME or fd:N, to resume.
  encrypt.run = ""  # Id of the run; empty: of its folder, until that is moved.

  evaluate = config.evaluate = ConfigDict()
  evaluate.batch_size = 500  # Over all devices.
  evaluate.wrong_keys = 64
  evaluate.wrong_images = 1000  # Test images for each wrong key; 0: all.
  # Keys at each distance from the right one; 0: no such distances.
  evaluate.distance_keys = 8

  # Label -> `scheme(...)`, in the order of `set_schemes`.
  config.schemes = ConfigDict(sort_keys=False)
  config.lock()
  config.model_args.unlock()  # models.create knows each model's arguments.
  return config


def set_data_fields(config: ConfigDict) -> None:
  """Add where data are, and the keys of those that are sealed or tagged."""
  config.data_dir = ""  # TFDS folder; empty: see data.find_data_dir.
  # Of data that are sealed, or whose records have tags: see keyjax.data.
  config.data_key = ""  # file:PATH, env:NAME or fd:N; empty: plain data.
  config.data_tags = ""  # File of tags of data that are not sealed.
  config.data_verify_key = ""  # Signer to require, as keyjax-KIND:...


def meaning(config: ConfigDict) -> dict[str, Any]:
  """Return a config as JSON, without fields that do not affect results."""
  fields = json.loads(config.to_json_best_effort())
  fields["train"].pop("prefetch", None)
  for name in ("data_key", "data_tags", "data_verify_key"):
    fields.pop(name, None)
  if not fields["train"]["defense"]["name"]:
    fields["train"].pop("defense")
  if not fields["train"]["lora"]["rank"]:
    fields["train"].pop("lora")
  if not fields["train"]["dp"]["on"]:
    fields["train"].pop("dp")
  for name in ("weights", "tokenizer"):  # Runs of before have no such fields.
    if not fields[name]:
      fields.pop(name)
  return fields


def mnist(name: str) -> ConfigDict:
  """Return the MNIST recipe: a small strided CNN, Adam."""
  config = base()
  config.name = name
  config.dataset = "mnist"
  config.model = "cnn"
  config.train.epochs = 6.0
  config.train.pad = 2
  return config


def gtsrb(name: str) -> ConfigDict:
  """Return the GTSRB recipe: a strided CNN, Adam, no augmentation.

  Signs fill their images: shifts cost 6 points of accuracy.
  """
  config = base()
  config.name = name
  config.dataset = "gtsrb"
  config.model = "cnn"
  config.model_args.features = (32, 64)
  config.train.batch_size = 64
  config.train.epochs = 6.0
  return config


def cifar10(name: str) -> ConfigDict:
  """Return the recipe of the block-wise papers: ResNet-18, 200 epochs of SGD.

  MaungMaung and Kiya, arXiv 2105.14756: momentum 0.9, weight decay 5e-4, a
  triangle from 0 to 0.2 and back, batches of 128, crops and flips.
  """
  config = base()
  config.name = name
  config.dataset = "cifar10"
  config.model = "resnet18"
  train = config.train
  train.optimizer = "sgd"
  train.learning_rate = 0.2
  train.schedule = "triangle"
  train.epochs = 200.0
  train.weight_decay = 5e-4
  train.pad = 4
  train.flip = True
  train.checkpoint_every = 2000
  return config


def recipe(
  word: str,
  name: str,
  recipes: Mapping[str, Callable[[str], ConfigDict]] | None = None,
  kind: str = "data set",
) -> ConfigDict:
  """Return the recipe that `--config=FILE:WORD` names.

  Args:
    word: Key of the recipes.
    name: Name of the config file; the run is called `WORD_NAME`.
    recipes: Recipes to choose from; by default `RECIPES`.
    kind: What a word names.

  Raises:
    ConfigArgumentError: If there is no such recipe.
  """
  recipes = recipes or RECIPES
  if word not in recipes:
    asked = f"unknown {kind} {word!r}" if word else f"no {kind} given"
    raise ConfigArgumentError(
      f"{asked} for configs/{name}.py, which has {', '.join(recipes)}; for "
      f"example --config=configs/{name}.py:{next(iter(recipes))}"
    )
  return recipes[word](f"{word}_{name}")


def shakespeare(name: str) -> ConfigDict:
  """Return the recipe of a small character transformer, for two CPU cores.

  Its architecture and AdamW are those of GPT-2; see `experiments.models.lm`.
  """
  config = base()
  config.name = name
  config.dataset = "tinyshakespeare"
  config.model = "gpt_micro"
  config.model_args.update(features=96, depth=3, heads=4)
  train = config.train
  train.batch_size = 32
  train.epochs = 2.0
  train.optimizer = "adamw"
  train.learning_rate = 3e-3
  train.clip = 1.0
  train.weight_decay = 0.1
  train.decay_leaves = ".*kernel"
  config.evaluate.batch_size = 100
  config.evaluate.wrong_images = 100
  return config


RECIPES = {"mnist": mnist, "gtsrb": gtsrb, "cifar10": cifar10}


def scheme(name: str, title: str = "", **kwargs: Any) -> ConfigDict:
  """Return a protection for `config.schemes`.

  Args:
    name: Name in `experiments.protection.lock.names()`.
    title: Title in reports.
    **kwargs: Arguments of the scheme's factory; see
      `experiments.protection.lock`.
  """
  spec = ConfigDict({"scheme": name, "title": title or name})
  spec.args = ConfigDict(kwargs, convert_dict=False)
  return spec


def deep_lock_forms() -> dict[str, ConfigDict]:
  """Return the forms of Deep-Lock that every data set's config compares."""
  return {
    "float32": scheme("deep_lock", "Deep-Lock, float32"),
    "int8": scheme("deep_lock", "Deep-Lock, int8", int8=True),
    "counter_int8": scheme(
      "deep_lock",
      "Deep-Lock, AES-256 counter mode, int8",
      schedule="counter",
      key_bits=256,
      int8=True,
    ),
  }


def one_of_each() -> dict[str, ConfigDict]:
  """Return a scheme of each published family, and the model without a lock."""
  return {
    "none": scheme("identity", "no lock"),
    "deep_lock": scheme(
      "deep_lock", "Deep-Lock, counter mode", schedule="counter"
    ),
    "adv_params": scheme(
      "adv_params", "AdvParams", theta=0.5, loss_threshold=1000.0
    ),
    "hpnn": scheme("hpnn", "HPNN"),
    "shf": scheme("shf", "SHF, M=4", block_size=4),
    "np": scheme("np", "NP, M=4", block_size=4),
    "ffx": scheme("ffx", "FFX, M=4", block_size=4),
  }


def table_schemes(**adv_params: Any) -> dict[str, ConfigDict]:
  """Return the schemes of the table of results, in its order.

  Args:
    **adv_params: Limits of AdvParams, which depend on the data.
  """
  return {
    **deep_lock_forms(),
    "adv_params": scheme("adv_params", "AdvParams", **adv_params),
    "hpnn": scheme("hpnn", "HPNN, 256 key bits"),
    "shf": scheme("shf", "SHF, M=4", block_size=4),
    "np": scheme("np", "NP, M=4", block_size=4),
    "ffx": scheme("ffx", "FFX, M=4", block_size=4),
  }


def adv_params_in_range(loss_threshold: float = 0.8) -> ConfigDict:
  """Return AdvParams with the search that stays inside the layers' ranges.

  Args:
    loss_threshold: Where the search stops; at most 1, the largest margin loss.
  """
  return scheme(
    "adv_params",
    "AdvParams, in range",
    search="in_range",
    loss="margin",
    max_steps=48,
    loss_threshold=loss_threshold,
  )


def set_schemes(config: ConfigDict, **schemes: ConfigDict) -> None:
  """Add protections to a config, which is locked again afterwards."""
  with config.schemes.unlocked():
    for label, spec in schemes.items():
      config.schemes[label] = spec


def attack(
  name: str,
  title: str = "",
  schemes: str = ".*",
  fraction: float = 0.0,
  steps: int = 0,
  points: int = 6,
  trials: int = 0,
  grid: tuple[dict[str, Any], ...] = (),
  picture: bool = False,
  seeds: int = 1,
  **attacker: Any,
) -> ConfigDict:
  """Return an attack for `config.attacks`.

  Args:
    name: Name in `keyjax.attacks.registry`, or in
      `experiments.attacking.plan.MEASUREMENTS`.
    title: Title in reports.
    schemes: Regular expression of labels in `config.schemes`; the attack is
      tried on those that it applies to.
    fraction: Share of the training images that the attacker holds, instead
      of their number.
    steps: Steps of training or search.
    points: Points of the curve.
    trials: Number of games, each with a fresh key; 0: one game, with the
      settings swept.
    grid: Settings to sweep; the attack's own by default.
    picture: Whether to draw what `pixel_jigsaw` restores, to
      WORKDIR/restored.png.
    seeds: Number of attackers with data and random numbers of their own; a row
      is their mean.
    **attacker: Fields of `keyjax.attacks.game.Attacker`.
  """
  spec = ConfigDict({"attack": name, "title": title or name})
  spec.schemes = schemes
  spec.fraction = fraction
  spec.trials = trials
  spec.steps = steps
  spec.points = points
  spec.grid = ConfigDict({"settings": grid}, convert_dict=False)
  spec.attacker = ConfigDict(attacker)
  if picture:  # Absent otherwise: rows are named by all fields of a spec.
    spec.picture = True
  if seeds != 1:
    spec.seeds = seeds
  return spec


def set_attacks(config: ConfigDict, **attacks: ConfigDict) -> None:
  """Add attacks to a config; `experiments.attack` runs them."""
  with config.unlocked():
    if "attacks" not in config:
      config.attacks = ConfigDict(sort_keys=False)
    with config.attacks.unlocked():
      for label, spec in attacks.items():
        config.attacks[label] = spec
