"""The command for published models: conditions, resumption, what is refused."""

import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import pretrained as command
from experiments.published import (
  detections,
  embeddings,
  images,
  matching,
  measure,
)
from experiments.published.subject import (
  SUBJECTS,
  Figure,
  Judged,
  Subject,
  register,
)
from experiments.tables import blocks
from keyjax import tasks
from tests.experiments.docstrings import load_config

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)


class Net(nn.Module):
  """A network of two layers."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return nn.Dense(3, name="last")(nn.relu(nn.Dense(8, name="first")(x)))


def make(config: ConfigDict) -> Subject:
  """Return a subject whose labels are what the plain network says."""
  model = Net()
  variables = model.init(jax.random.key(config.seed), X)
  wanted = model.apply(variables, X)
  task = tasks.get("embeddings")

  def judge(forward: Any) -> Judged:
    outputs = forward(X)
    broken = ~np.isfinite(np.asarray(outputs))
    outputs = jnp.where(broken.any(-1)[:, None], 0, outputs)
    figure = Figure(task, task.statistics(outputs, wanted))
    return Judged({"cosine": figure}, float(broken.mean()))

  return Subject(
    model,
    variables,
    {"image": X, "label": jnp.roll(wanted, 1, 0)},
    "first",
    judge,
    {"dataset": "numbers"},
    task,
  )


@pytest.fixture
def config() -> Any:
  found = load_config("pretrained.py")
  with found.unlocked():
    found.small = ConfigDict({"seed": 0})
  found.update(subjects=("small",), wrong_keys=2, secrets=2)
  with SUBJECTS.temporary():
    register("small", make)
    yield found


@pytest.mark.parametrize(
  "locks",
  [
    ("deep_lock",),
    ("adv_params", "deep_lock_int8"),
    pytest.param(("deep_lock", "keyed_noise", "hpnn"), marks=pytest.mark.slow),
  ],
)
def test_conditions_of_locks(locks, config, tmp_path, monkeypatch) -> None:
  config.locks = locks
  copy = tmp_path / "pretrained.json"
  rows = command.run(config, str(tmp_path / "run"), copy=str(copy))
  assert len(rows) == 4 * len(locks) and json.loads(copy.read_text()) == rows
  for lock in locks:
    own = {r["condition"]: r for r in rows if r["scheme"] == lock}
    assert own["plain"]["value"] == pytest.approx(1)
    assert own["plain"]["interval"] == "over examples, 95 %"
    assert own["right"]["values"] == pytest.approx([1, 1], abs=1e-3)
    assert own["right"]["nonfinite"] == 0
    for condition in ("no_key", "wrong"):
      row = own[condition]
      assert row["keys"] == len(row["values"]) == 2 and row["commit"]
      assert row["low"] <= row["value"] <= row["high"] < 0.999
  # Resumed: nothing is measured again, another field is.
  monkeypatch.setattr(measure, "measured", None)
  assert command.run(config, str(tmp_path / "run")) == rows
  config.small.seed = 1
  with pytest.raises(TypeError):
    command.run(config, str(tmp_path / "run"))
  titles = [t.title for t in command.tables(rows)]
  assert titles == ["small: cosine"]
  block = "<!-- begin pretrained: x -->\n<!-- end pretrained -->"
  text = blocks.fill(block, tmp_path)
  assert f"| {measure.LOCKS[locks[0]].title} | 1.000 | 1.000 | " in text
  assert "2 secrets, 2 wrong keys" in text


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("subjects", ("cats",), "subjects=.*choose from embeddings, faces, "),
    ("locks", (), "locks=.*choose from deep_lock, deep_lock_int8, adv_p"),
    ("wrong_keys", 1, "wrong_keys=1: expected 2 or more"),
    ("secrets", 0, "secrets=0"),
  ],
)
def test_fields_out_of_range(config, field, value, message) -> None:
  config[field] = value
  with pytest.raises(ValueError, match=message):
    measure.jobs(config)


def test_a_search_by_loss_needs_labels(config) -> None:
  unlabelled = make(config.small)._replace(batch={"image": X})
  with pytest.raises(ValueError, match="adv_params .*a Net has no labels here"):
    measure.build(unlabelled, "adv_params")


def test_a_subject_may_have_locks_of_its_own(config) -> None:
  before = set(measure.jobs(config))
  with config.unlocked():
    config.small.locks = ("keyed_noise_tables", "hpnn")
  after = set(measure.jobs(config))
  assert [x.split("/")[1] for x in sorted(after - before)] == [
    "keyed_noise_tables"
  ]
  assert len(after & before) == 1


def test_detectors_have_labels_and_a_plain_truth() -> None:
  image = np.zeros((8, 8, 3), np.uint8)
  box = np.array([[0, 0, 4, 4]], np.float32)

  class Constant(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
      return x + self.param("shift", nn.initializers.zeros, (1,))[0]

  def detect(forward: Any, image: np.ndarray) -> matching.Found:
    del image
    moved = np.asarray(forward(jnp.ones(2)))
    return matching.Found(box + moved[0], np.array([0.9], np.float32))

  model = Constant()
  variables = {"params": {"shift": jnp.zeros(1)}}
  subject = detections.subject(
    model,
    variables,
    jnp.ones(2),
    layers=".*",
    detect=detect,
    labelled=[images.Labelled(image, box + 1)],
    photos=[image, image],
    about={"dataset": "none"},
  )
  assert subject.about["objects in photos"] == 2

  def judged(shift: float) -> dict[str, float]:
    made = subject.judge(lambda x: x + jnp.float32(shift))
    found = {k: f.task.value(f.statistics) for k, f in made.figures.items()}
    return found | {"nonfinite": made.nonfinite}

  whole = {"ap50": 1.0, "ap50 against plain": 1.0, "nonfinite": 0.0}
  assert judged(0.0) == pytest.approx(whole)
  assert judged(9.0)["ap50 against plain"] == 0
  assert judged(np.nan)["nonfinite"] == 1


def test_embeddings_that_are_not_finite_are_no_vectors() -> None:
  tokens = [np.ones((3, 2), np.int32)] * 2
  original = [np.eye(3, dtype=np.float32)] * 2
  good = embeddings._judge(tokens, original, lambda x: np.eye(3))
  values = [f.task.value(f.statistics) for f in good.figures.values()]
  assert values == pytest.approx([1, 1]) and good.nonfinite == 0
  bad = embeddings._judge(tokens, original, lambda x: np.full((3, 3), np.nan))
  values = [f.task.value(f.statistics) for f in bad.figures.values()]
  assert values == [0, 0] and bad.nonfinite == 1


def test_another_pooling_is_refused(tmp_path) -> None:
  (tmp_path / "1_Pooling").mkdir()
  file = tmp_path / "1_Pooling" / "config.json"
  file.write_text(json.dumps({"pooling_mode_cls_token": True}))
  with pytest.raises(ValueError, match="cls_token.*the mean of tokens"):
    embeddings.load(tmp_path)


def test_an_absent_folder_is_an_error(tmp_path) -> None:
  config = load_config("pretrained.py")
  config.embeddings.source = str(tmp_path / "none.safetensors")
  with pytest.raises(OSError, match="config.json"):
    command.run(config, str(tmp_path / "run"))
