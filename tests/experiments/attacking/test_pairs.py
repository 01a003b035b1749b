"""Attacks on a locked encoder of pairs: a tiny BERT with random weights."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from ml_collections import ConfigDict

from experiments import attack as command
from experiments import data, models
from experiments.attacking import games, plan
from experiments.data.sets import docstrings
from experiments.data.sets.docstrings import Pair
from experiments.models import bert
from experiments.models.pairs import PairEncoder
from experiments.protection import weights
from experiments.run import config as configs
from keyjax.attacks.game import Cost, Score
from keyjax.attacks.referee import AttackResult, Point
from tests.experiments.models.bert_files import SPECIAL, arrays, tokenizer

WORDS = tuple(x + y for x in "abcdef" for y in "abcdef")
SIZES = {"features": 16, "context": 24, "depth": 2, "heads": 2, "hidden": 24}


def made_up() -> tuple[list[Pair], list[Pair]]:
  """Return pairs of texts that share words."""
  rng = np.random.default_rng(0)
  drawn = [rng.choice(WORDS, 4, replace=False) for _ in range(90)]
  pairs = [Pair(" ".join(x[:3]), " ".join(x[:0:-1])) for x in drawn]
  return pairs[:40], pairs[40:]


@pytest.fixture
def config(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> ConfigDict:
  """Return a config of an untrained encoder, which is the public model."""
  made = configs.base()
  made.name, made.dataset, made.model = "tiny", "docstrings", "minilm_pairs"
  words = *SPECIAL, *WORDS
  made.tokenizer = str(tokenizer(tmp_path, *words))
  monkeypatch.setattr(docstrings, "library", made_up)
  made.weights = str(tmp_path / "tiny.safetensors")
  safetensors.numpy.save_file(arrays(len(words), 24, 16, 0.2), made.weights)
  made.context = 6
  made.model_args.update(SIZES)
  made.train.epochs = 0.0
  made.evaluate.batch_size = 32  # Fewer than the examples.
  mlp = r"block_\d+/mlp_(in|out)"
  configs.set_schemes(
    made,
    none=configs.scheme("identity"),
    hpnn=configs.scheme("hpnn", after_training=True, layers=mlp),
    chain=configs.scheme("deep_lock"),
    noise=configs.scheme("keyed_noise"),
  )
  few = {"fraction": 1.0, "points": 1, "seeds": 2}
  tuning = few | {"schemes": "hpnn", "grid": ({"learning_rate": 1e-2},)}
  configs.set_attacks(
    made,
    start=configs.attack("fine_tune", steps=1, **tuning),
    tune=configs.attack("fine_tune", steps=60, **tuning),
    signs=configs.attack("hpnn_base", has_base=True),
    key=configs.attack("base_model", has_base=True),
    values=configs.attack(
      "nearest_base", grid=({"spread": 0.0},), has_base=True
    ),
    idle=configs.attack("nearest_base", grid=({"spread": 1e9},), has_base=True),
  )
  return made


@pytest.fixture(autouse=True)
def promotion() -> Any:
  with jax.numpy_dtype_promotion("standard"):
    yield


def test_the_public_model_undoes_noise(config, tmp_path) -> None:
  folder = str(tmp_path / "run")
  found, idle = command.run(config, folder, only="noise/(values|idle)")
  assert found["judged_by"] == "retrieval"
  assert found["unit_of_labels"] == "pairs"
  assert found["value"] == found["right"] > 0.1
  assert found["details"]["cosine"] == pytest.approx(1, abs=1e-5)
  assert idle["details"]["cosine"] < 0.99


@pytest.mark.slow
def test_what_a_public_base_and_training_give(config, tmp_path) -> None:
  rows = command.run(config, str(tmp_path / "run"))
  by = {(r["scheme"], r["attack"]): r for r in rows}
  signs = by["hpnn", "signs"]
  assert signs["value"] == signs["right"] > 0.1
  assert signs["details"]["bits_right"] == signs["details"]["bits"] > 0
  assert signs["details"]["cosine"] == pytest.approx(1, abs=1e-5)
  assert by["chain", "key"]["value"] == 1
  start, tuned = by["hpnn", "start"], by["hpnn", "tune"]
  assert start["details"]["cosine"] < 0.99
  # Pairs that were not trained on are found.
  assert tuned["value"] > start["value"] + 0.1
  assert tuned["interval"] == "Student's t over 2 seeds"
  assert tuned["value"] == pytest.approx(np.mean(tuned["details"]["values"]))
  assert tuned["low"] <= tuned["value"] <= tuned["high"]
  # Resumed.
  assert command.run(config, str(tmp_path / "run")) == rows


def test_no_labels_without_a_public_model(config) -> None:
  dataset = data.from_config(config, weights.tokenizer(config))
  model = models.from_config(config, dataset)
  with pytest.raises(ValueError, match="has no labels: .* config.weights say"):
    weights.answered(config, dataset, model, None)
  initial = weights.load(config, dataset, model)
  labelled = weights.answered(config, dataset, model, initial)
  assert labelled.test_labels.shape == (50, 2, 16)
  assert weights.answered(config, labelled, model, None) is labelled


def test_a_pair_is_two_texts() -> None:
  sizes = SIZES | {"depth": 1}
  model = PairEncoder(vocabulary=9, **sizes)
  tokens = jnp.asarray([[2, 5, 3, 0, 2, 6, 7, 3], [2, 3, 0, 0, 2, 8, 3, 0]])
  variables = jax.jit(model.init)(jax.random.key(0), tokens)
  found = jax.jit(model.apply)(variables, tokens)
  one = jax.jit(bert.SentenceEncoder(vocabulary=9, **sizes).apply)
  for i in range(2):
    wanted = one(variables, tokens[:, 4 * i : 4 * i + 4])
    np.testing.assert_allclose(found[:, i], wanted, atol=1e-6)
  with pytest.raises(ValueError, match="7 tokens are no two texts"):
    model.apply(variables, tokens[:, :7])


def test_docstrings_are_tokens_of_two_texts(config) -> None:
  dataset = data.from_config(config, weights.tokenizer(config))
  assert dataset.train_images.shape == (40, 12)
  assert dataset.test_images.shape == (50, 12)
  starts = dataset.train_images[:, [0, 6]]
  assert (starts == SPECIAL.index("[CLS]")).all()
  for tokens, message in (
    (None, "docstrings needs a tokenizer, such as config.tokenizer=package:"),
    (weights.tokenizer(config), "context=2 of 3 or more tokens"),
  ):
    config.context = 2
    with pytest.raises(ValueError, match=message):
      data.from_config(config, tokens)


def test_pairs_of_the_standard_library() -> None:
  train, test = docstrings.library()
  assert not {x for p in train for x in p} & {x for p in test for x in p}
  assert len(train) > 200 and len(test) > 200
  assert docstrings.library()[0] is train


def test_seeds_of_an_attack(config) -> None:
  config.attacks.tune.seeds = 0
  with pytest.raises(ValueError, match="tune.seeds=0: must be at least 1"):
    plan.check(config)
  config.attacks.tune.update(seeds=2, trials=2)
  with pytest.raises(ValueError, match="tune: trials have seeds of their own"):
    plan.check(config)


def test_the_mean_over_seeds() -> None:
  one = Score(0.2, 0.1, 0.3, {"cosine": 0.5, "note": "a"})
  other = Score(0.4, 0, 1, {"cosine": 0.7, "note": "b"})
  start = Point(Cost(), Score(0.1, 0, 1))
  first = AttackResult(one, Cost(4), [start, Point(Cost(4), one)], {}, {})
  second = dataclasses.replace(
    first, score=other, cost=Cost(6), curve=[start, Point(Cost(6), other)]
  )
  assert games.over_seeds([first]) is first
  found = games.over_seeds([first, second])
  assert found.score.value == pytest.approx(0.3) and found.cost.steps == 5
  assert 0 == found.score.low < 0.3 < found.score.high == 1
  assert found.score.details["cosine"] == pytest.approx(0.6)
  assert found.score.details["values"] == [0.2, 0.4]
  assert found.score.details["note"] == "b"
  assert [p.score.value for p in found.curve] == pytest.approx([0.1, 0.3])
  shorter = dataclasses.replace(second, curve=second.curve[1:])
  found = games.over_seeds([first, shorter])
  assert [p.cost.steps for p in found.curve] == [5]
