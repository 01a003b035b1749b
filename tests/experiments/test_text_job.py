"""The main job on text: every condition, with perplexities."""

import json
import math
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import data, main, models
from experiments.run import results
from experiments.run.config import base, scheme, set_schemes
from keyjax import tasks
from tests import repeatable

LABELS = ("float32", "hpnn")
CONTEXT = 16


def config() -> ConfigDict:
  made = base()
  made.name = "text"
  made.dataset = "python_help"
  made.model = "gpt_micro"
  made.context = CONTEXT
  made.num_train = 512
  made.num_test = 30
  made.model_args.update(features=16, depth=1)
  made.train.update(
    batch_size=32, epochs=8.0, optimizer="adamw", learning_rate=3e-2
  )
  made.train.update(weight_decay=0.1, decay_leaves=".*kernel")
  made.evaluate.update(
    batch_size=16, wrong_keys=2, wrong_images=10, distance_keys=1
  )
  set_schemes(
    made,
    float32=scheme("deep_lock", "Deep-Lock"),
    hpnn=scheme("hpnn", "HPNN", units=32),
  )
  return made


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Any:
  folder = tmp_path_factory.mktemp("text") / "run"
  with (
    repeatable.secrets("text"),
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    rows = main.run(config(), str(folder))
  return rows, folder


@pytest.mark.slow
def test_every_condition_has_an_accuracy_and_a_perplexity(done: Any) -> None:
  rows, folder = done
  assert json.loads((folder / "results.json").read_text()) == rows
  for label in LABELS:
    for condition, count in (("right", 30), ("no_key", 30), ("wrong", 10)):
      find = {"scheme": label, "condition": condition}
      accuracy = results.find(rows, metric="accuracy", **find)
      assert accuracy["images"] == count * CONTEXT, "characters"
      assert "over images" not in accuracy["interval"]
      perplexity = results.find(rows, metric="perplexity", **find)
      spoilt = perplexity["nonfinite"] > 0
      assert (perplexity["value"] is None) == spoilt
      assert spoilt == (label == "float32" and condition != "right")


@pytest.mark.slow
def test_the_right_key_is_the_plain_model_and_others_are_not(
  done: Any,
) -> None:
  rows, _ = done
  find = lambda **kw: results.find(rows, metric="perplexity", **kw)  # noqa: E731
  plain = find(scheme="plain")["value"]
  classes = rows[0]["classes"]
  assert 1 < plain < 0.7 * classes
  right = find(scheme="float32", condition="right")["value"]
  assert right == plain
  right = find(scheme="hpnn", condition="right")["value"]
  assert right == pytest.approx(plain, rel=0.2)
  for condition in ("no_key", "wrong"):
    # After so short a training the lock changes little, but it shows.
    assert find(scheme="hpnn", condition=condition)["value"] != right


@pytest.mark.slow
def test_the_logs_count_characters(done: Any) -> None:
  _, folder = done
  line = json.loads((folder / "plain/metrics.jsonl").read_text().split("\n")[0])
  assert line["characters_per_second"] > 0
  assert line["step"] == 50
  assert [*(folder / "plain/tensorboard").iterdir()]


def test_perplexity_is_that_of_a_uniform_guess() -> None:
  """A model of zeros gives every character the same probability."""
  from experiments.protection import evaluate, lock

  made = config()
  text = data.from_config(made)
  model = models.from_config(made, text)
  x = data.to_input(text.test_images[:1])
  zeros = jax.tree.map(
    lambda s: np.zeros(s.shape, s.dtype),
    jax.eval_shape(model.init, jax.random.key(0), x),
  )
  images = evaluate.pack(text.test_images[:5], text.test_labels[:5], 4)
  protection = lock.build("deep_lock", {}, model)
  task = tasks.get(text.task)
  found = evaluate.judge_without_key(task, protection, zeros, images)
  assert found.total == 5 * CONTEXT
  perplexity = found.metric("perplexity")
  assert perplexity == pytest.approx([text.num_classes], rel=1e-5)
  right = (text.test_labels[:5] == 0).sum(1)
  assert found.key(0)["hits"].tolist() == right.tolist()
  worst = found.key(0) | {"nats": np.full(5, 1e9)}
  assert math.isinf(task.value(worst, "perplexity"))


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"model": "cnn"}, "model=cnn does not fit dataset=python_help.*gpt2"),
    ({"dataset": "digits"}, "gpt_micro does not fit .*images: .*cnn, .*mlp, "),
    ({"context": 65}, "65 tokens are more than context=64"),
    ({"dataset": "text"}, "No text at"),
  ],
)
def test_models_and_data_that_do_not_fit(
  fields: dict[str, Any], message: str, tmp_path: pathlib.Path
) -> None:
  made = config()
  made.num_test = made.num_train = 10
  made.train.batch_size = 8
  if "model" in fields:
    made.model_args = ConfigDict()
  made.update(fields)
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    main.run(made, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["shf", "np"])
def test_images_are_not_text(name: str, tmp_path: pathlib.Path) -> None:
  made = config()
  set_schemes(made, last=scheme(name))
  with pytest.raises(ValueError, match=r"images are \[\.\.\., H, W, C\]"):
    main.run(made, str(tmp_path / "run"))
  made = config()
  made.train.cutout = 2
  with pytest.raises(ValueError, match="train.cutout is for images"):
    main.run(made, str(tmp_path / "run"))
