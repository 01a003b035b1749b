"""Every file in configs/ loads, says how to run it, and fits its model."""

import ast
import dataclasses
import functools
import importlib.util
import json
import pathlib
import re
from types import ModuleType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import pytest
from ml_collections import ConfigDict

import keyjax
from experiments import data, models, poisons, studies
from experiments.attacking import plan, rows
from experiments.claims import measure as claims
from experiments.evasion import plan as evasion_plan
from experiments.models.registry import MODELS
from experiments.protection import lock
from experiments.report import commands
from experiments.run.config import (
  RECIPES,
  ConfigArgumentError,
  base,
  scheme,
  set_schemes,
)
from keyjax.attacks import registry
from tests.conftest import ROOT

FOLDER = ROOT / "configs"
KNOWN = commands.known()
# These make their own data and models.
OTHERS = ("agents", "capability", "homomorphic", "pretrained", "recording")
CONFIGS = [known for known in KNOWN if known.program not in OTHERS]
each_config = pytest.mark.parametrize(
  "known", CONFIGS, ids=lambda known: known.name
)
SHAPES = {
  "digits": ((8, 8, 1), 10),
  "docstrings": ((32,), 65),
  "mnist": ((28, 28, 1), 10),
  "fashion_mnist": ((28, 28, 1), 10),
  "cifar10": ((32, 32, 3), 10),
  "svhn_cropped": ((32, 32, 3), 10),
  "gtsrb": ((32, 32, 3), 43),
  "imagenet2012": ((224, 224, 3), 1000),
  "tinyshakespeare": ((64,), 65),
  "scene_masks": ((64, 64, 1), 11),
  "scene_boxes": ((64, 64, 1), 10),
  "tilt": ((20, 6, 1), 10),
  "bits": ((16, 8, 1), 2),
}


# Files whose words are not those of RECIPES.
OTHER_WORDS = {
  "approximation.py": ["tilt", "bits", "xor"],
  "attack_scenes.py": ["masks", "boxes"],
  "copies.py": ["digits", "mnist"],
  "poisoning.py": ["digits", "mnist"],
  "imagenet.py": ["resnet50", "resnet101", "vit_s"],
  "privacy.py": ["digits", "clean", "mnist", "few", "private", "canaries"],
  "private.py": ["epsilon4", "epsilon2", "epsilon1"],
  "robustness.py": ["digits", "mnist"],
  "survey_evasion.py": ["digits", "mnist"],
}


def module_of(file: pathlib.Path) -> ModuleType:
  spec = importlib.util.spec_from_file_location(file.stem, file)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def load(known: commands.Config) -> ConfigDict:
  file, *words = known.argument.split(":")
  return module_of(FOLDER / file).get_config(*words)


class Case(NamedTuple):
  """A scheme of a config."""

  config: ConfigDict
  label: str

  @property
  def network(self) -> str:
    """Return what determines the model, as JSON."""
    config = self.config
    args = dict(config.model_args)
    return json.dumps([config.dataset, config.model, args, config.train.dtype])

  @property
  def protection(self) -> str:
    """Return what determines the lock, as JSON."""
    spec = self.config.schemes[self.label]
    return json.dumps([spec.scheme, dict(spec.args)])


# HPNN's keygen runs these models, with random weights.
SLOW = {
  ("attack_batch_norm", "hpnn"),
  ("attack_minilm", "hpnn"),
  ("cifar10_hpnn", "hpnn"),
  ("resnet50_imagenet", "hpnn"),
  ("resnet101_imagenet", "hpnn"),
  ("vit_s_imagenet", "hpnn"),
  ("attack_smollm2", "hpnn"),
  ("boxes_attack_scenes", "hpnn"),
  ("masks_attack_scenes", "hpnn"),
  ("shakespeare_hpnn", "hpnn"),
  ("shakespeare_hpnn", "hpnn_mlp"),
}


def cases() -> list[Any]:
  """Return a case for each lock of each network; configs share many."""
  found: dict[tuple[str, str], Any] = {}
  for known in CONFIGS:
    config = load(known)
    for label in config.schemes:
      case = Case(config, label)
      name = f"{known.name}-{label}"
      marks = [pytest.mark.slow] if (known.name, label) in SLOW else []
      found.setdefault(
        (case.network, case.protection),
        pytest.param(case, id=name, marks=marks),
      )
  return list(found.values())


@functools.cache
def model_of(network: str) -> tuple[nn.Module, jax.ShapeDtypeStruct, Any]:
  """Return the model, an input and the variables, by shape only.

  ImageNet and texts are not needed for it.
  """
  dataset, model, args, dtype = json.loads(network)
  config = base()
  config.update(dataset=dataset, model=model)
  config.model_args.update(args)
  config.train.dtype = dtype
  shape, classes = SHAPES[dataset]
  fake = data.load(
    "fake", shape=shape, classes=classes, num_train=2, num_test=1
  )
  task = MODELS.get(model).task
  made = models.from_config(config, dataclasses.replace(fake, task=task))
  example = jax.eval_shape(data.to_input, fake.train_images)
  variables = jax.eval_shape(made.init, jax.random.key(0), example)
  return made, example, variables


@functools.cache
def plain_logits(network: str) -> Any:
  """Return the shapes of the plain pass, which all locks of weights have."""
  model, images, variables = model_of(network)
  return jax.eval_shape(model.apply, variables, images)


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_the_header_is_the_command(known: commands.Config) -> None:
  file = FOLDER / known.argument.split(":")[0]
  doc = ast.get_docstring(ast.parse(file.read_text()))
  assert doc is not None
  flat = re.sub(r"[\\\s]+", " ", doc)
  config = load(known)
  program = "attack" if "attacks" in config else "main"
  if "robustness" in config:
    program = "robustness"
  for command in ("privacy", "copies", "poisoning"):
    if command in config:
      program = command
  if config.name in OTHERS:
    program = config.name
  assert known.program in (program, "interpret")
  command = f"python -m experiments.{program} --config=configs/"
  assert f"{command}{known.argument} --workdir=runs/{known.name}" in flat
  others = set(re.findall(r"configs/(\w+)\.py", doc)) - {file.stem}
  assert not others, "a header names its own file"


def test_every_file_is_known_and_every_recipe_has_its_command() -> None:
  files = {known.argument.split(":")[0] for known in KNOWN}
  assert files == {file.name for file in FOLDER.glob("*.py")}
  several = {x.argument.split(":")[0] for x in CONFIGS if ":" in x.argument}
  assert several == {
    "adv_params.py",
    "deep_lock.py",
    "hpnn.py",
    "pixel_shuffle.py",
    *OTHER_WORDS,
  }
  for file in several:
    words = [
      known.argument.partition(":")[2]
      for known in CONFIGS
      if known.argument.startswith(file)
    ]
    assert words == OTHER_WORDS.get(file, [*RECIPES]), file
    titles = {x.title for x in CONFIGS if x.argument.startswith(file)}
    assert len(titles) == len(words)


@pytest.mark.parametrize("words", [(), ("",), ("cats",)])
def test_a_wrong_recipe_lists_the_known_ones(words: tuple[str, ...]) -> None:
  module = module_of(FOLDER / "hpnn.py")
  with pytest.raises(ConfigArgumentError, match="mnist, gtsrb, cifar10") as e:
    module.get_config(*words)
  assert "\n" not in str(e.value)
  assert "--config=configs/hpnn.py:mnist" in str(e.value)
  assert repr("cats") in str(e.value) or words != ("cats",)


@each_config
def test_the_config_loads_and_is_locked(known: commands.Config) -> None:
  config = load(known)
  assert config.name == known.name
  assert config.dataset in data.names()
  # A pass of public weights takes a minute: they are judged by fewer keys.
  assert config.evaluate.wrong_keys >= (16 if config.weights else 64)
  assert len(config.schemes) >= 1
  own = {"attacks", "copies", "poisoning", "privacy", "robustness"}
  assert set(config.keys()) - own == set(base().keys())
  with pytest.raises((AttributeError, KeyError)):
    config.nope = 1
  with pytest.raises((AttributeError, KeyError)):
    config.train.epoch = 1
  text = config.to_json_best_effort()
  assert "secret" not in text and "unserializable" not in text


@each_config
def test_every_attack_is_known_and_applies_to_a_scheme(
  known: commands.Config,
) -> None:
  config = load(known)
  if "attacks" not in config:
    return
  plan.check(config)
  pairs = set(plan.pairs(config))
  assert {label for _, label in pairs} == {*config.attacks}
  assert {label for label, _ in pairs} == {*config.schemes}
  for _, label in pairs:
    spec = config.attacks[label]
    attacker = rows.attacker_of(spec, 1000)
    if spec.attack not in plan.MEASUREMENTS:
      assert attacker.covers(registry.get(spec.attack).needs), label


@each_config
def test_studies_are_checked(known: commands.Config) -> None:
  config = load(known)
  if "robustness" in config:
    evasion_plan.check(config)
    claims.check("robustness", config, studies.get)
    assert config.robustness.attacks or config.robustness.studies
    assert evasion_plan.models(config)
  if "poisoning" in config:
    claims.check("poisoning", config, poisons.get)
    assert config.poisoning.studies


@pytest.mark.parametrize("file", OTHER_WORDS)
def test_a_wrong_word_is_named(file: str) -> None:
  module = module_of(FOLDER / file)
  words = ", ".join(OTHER_WORDS[file])
  with pytest.raises(ConfigArgumentError, match=f"'cats'.*{words}"):
    module.get_config("cats")


@pytest.mark.parametrize("case", cases())
def test_every_scheme_fits_the_model(case: Case) -> None:
  """Shapes only: keygen, encrypt, decrypt and the authorised pass."""
  model, images, variables = model_of(case.network)
  spec = case.config.schemes[case.label]
  built = lock.build(spec.scheme, dict(spec.args), model)
  scheme = built.scheme
  prepared = jax.eval_shape(built.prepare, variables)
  if not built.key_from_params:  # Shapes have no values.
    key = scheme.keygen(keyjax.Secret.generate(), prepared, {"image": images})
    locked = jax.eval_shape(scheme.encrypt, key, prepared)
    opened = jax.eval_shape(scheme.decrypt, key, locked)
    assert opened == prepared
    run = scheme.bind(key, built.apply)
    if run == model.apply and opened == variables:
      logits = plain_logits(case.network)
    else:
      logits = jax.eval_shape(run, opened, images)
    classes = SHAPES[case.config.dataset][1]
    if case.config.dataset == "scene_boxes":  # A cell is 4 x 4 pixels.
      logits = logits.logits
      assert logits.shape == (2, 16, 16, classes)
    elif case.config.dataset == "scene_masks":
      assert logits.shape == (2, 64, 64, classes)
    elif case.config.dataset == "docstrings":
      assert logits.shape == (2, 2, 384)
    else:
      text = images.shape[1:] if len(images.shape) == 2 else ()
      assert logits.shape == (2, *text, classes)
  if built.trains:
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), variables)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), prepared) == shapes


def test_labels_are_names_of_files() -> None:
  for known in CONFIGS:
    for label in load(known).schemes:
      assert re.fullmatch(r"\w+", label), "it names a folder and a key file"


def test_schemes_keep_their_order_and_are_locked_again() -> None:
  config = base()
  set_schemes(config, b=scheme("shf"), a=scheme("np", "NP", block_size=2))
  assert [*config.schemes] == ["b", "a"]
  assert config.schemes.b.title == "shf" and config.schemes.a.title == "NP"
  with pytest.raises((AttributeError, KeyError)):
    config.schemes.c = scheme("ffx")
