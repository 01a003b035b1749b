"""The main job on weights that it does not train."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import keyjax
from experiments import main
from experiments.attacking.targets import Targets
from experiments.protection import protect, weights
from experiments.protection.job import Job, open_job
from experiments.run import results
from experiments.run.config import base, scheme, set_schemes
from experiments.run.workdir import WorkdirError
from experiments.training import train
from keyjax import checkpoint, tree
from tests import trees

D, CONTEXT = 16, 16
LABELS = ("counter", "hpnn", "noise")


def config(weights: str, labels: tuple[str, ...] = LABELS) -> ConfigDict:
  made = base()
  made.name = "public"
  made.dataset = "python_help"
  made.model = "gpt_micro"
  made.context = CONTEXT
  made.num_train, made.num_test = 32, 12
  made.model_args.update(features=D, depth=1, context=CONTEXT)
  made.weights = weights
  made.train.epochs = 0.0
  made.evaluate.update(
    batch_size=4, wrong_keys=2, wrong_images=0, distance_keys=0
  )
  schemes = {
    "counter": scheme("deep_lock", "Deep-Lock", schedule="counter"),
    "hpnn": scheme("hpnn", "HPNN", units=64, after_training=True),
    "noise": scheme("keyed_noise", "noise"),
  }
  set_schemes(made, **{label: schemes[label] for label in labels})
  return made


def arrays(vocabulary: int, seed: int = 0) -> dict[str, np.ndarray]:
  """Return weights in GPT-2's layout."""
  rng = np.random.default_rng(seed)
  shapes: dict[str, tuple[int, ...]] = {
    "wte.weight": (vocabulary, D),
    "wpe.weight": (CONTEXT, D),
  }
  for name in ("h.0.ln_1", "h.0.ln_2", "ln_f"):
    shapes |= {f"{name}.weight": (D,), f"{name}.bias": (D,)}
  for name, (size, out) in {
    "attn.c_attn": (D, 3 * D),
    "attn.c_proj": (D, D),
    "mlp.c_fc": (D, 4 * D),
    "mlp.c_proj": (4 * D, D),
  }.items():
    shapes[f"h.0.{name}.weight"] = (size, out)
    shapes[f"h.0.{name}.bias"] = (out,)
  return {
    name: rng.normal(0, 0.5, shape).astype(np.float32)
    for name, shape in shapes.items()
  }


@pytest.fixture(scope="module")
def vocabulary() -> int:
  from experiments import data

  return data.load("python_help", context=CONTEXT).num_classes


@pytest.fixture
def file(tmp_path: pathlib.Path, vocabulary: int) -> pathlib.Path:
  path = tmp_path / "public.npz"
  np.savez(path, **arrays(vocabulary))
  return path


@pytest.fixture(autouse=True)
def promotion() -> Iterator[None]:
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    yield


def opened(made: ConfigDict, tmp_path: pathlib.Path) -> Job:
  return open_job(made, str(tmp_path / "run"), "", None, lambda line: None)


def test_the_plain_model_is_the_file(
  file: pathlib.Path, tmp_path: pathlib.Path, vocabulary: int
) -> None:
  labels = ("counter", "noise")
  job = opened(config(str(file), labels), tmp_path)
  assert not job.trains
  variables = protect.train_plain(job)
  public = arrays(vocabulary)
  np.testing.assert_array_equal(
    variables["params"]["block_0"]["attention"]["key"]["kernel"],
    public["h.0.attn.c_attn.weight"][:, D : 2 * D],
  )
  for label in labels:
    locked = protect.train_locked(job, label, variables)
    trees.assert_same_bits(locked, variables)
  # An attacker's base is what everybody can have, and nothing else was made.
  assert Targets(job).sister is job.initial
  assert sorted(p.name for p in job.workdir.path.iterdir()) == [
    *labels,
    "run.json",
  ]


def test_another_file_of_the_same_name_is_another_run(
  file: pathlib.Path, tmp_path: pathlib.Path, vocabulary: int
) -> None:
  made = config(str(file), ("counter",))
  opened(made, tmp_path)
  job = opened(made, tmp_path)
  (recorded,) = job.row_base["contents"].values()
  written = json.loads((tmp_path / "run/run.json").read_text())
  assert written["config"]["contents"] == {"weights": recorded}
  assert len(recorded) == 64
  np.savez(file, **arrays(vocabulary, seed=1))
  with pytest.raises(WorkdirError, match=r"differs at contents\.weights;"):
    opened(made, tmp_path)


def test_a_folder_of_shards_is_digested_whole(tmp_path: pathlib.Path) -> None:
  index = tmp_path / "model.safetensors.index.json"
  shard = tmp_path / "model-1.safetensors"
  index.write_text("{}")
  shard.write_bytes(b"1")
  found = []
  for change in (lambda: None, lambda: shard.write_bytes(b"2")):
    change()
    digests = {
      weights.digests(config(str(path)))["weights"]
      for path in (index, tmp_path)
    }
    found += digests
    assert len(digests) == 1
  assert len(set(found)) == 2


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"weights": ""}, r"train\.epochs=0\.0: must be more than 0, or 0 with"),
    ({"weights": "absent.npz"}, r"absent\.npz"),
    ({"weights": "a.bin"}, r"a\.bin: weights are read from .*\.npz"),
    ({"model_args.features": 32}, r"gives \[16\], but params/.* is \[32\]"),
    ({"model_args.depth": 2}, "no tensor h.1"),
    ({"train.defense.name": "pgd"}, "is for images|needs training"),
    ({"schemes.noise.scheme": "hpnn"}, "schemes.noise: .* trains under"),
    ({"train.lora.rank": 2}, r"rank=2 adapts .*train\.epochs above 0"),
    (
      {
        "train.lora.rank": 2,
        "train.epochs": 1.0,
        "train.lora.layers": "no",
        "train.batch_size": 16,
      },
      "lora layers='no': no kernel",
    ),
  ],
)
def test_what_does_not_fit_is_refused(
  fields: dict[str, Any],
  message: str,
  file: pathlib.Path,
  tmp_path: pathlib.Path,
) -> None:
  made = config(str(file), ("noise",))
  for path, value in fields.items():
    *parents, name = path.split(".")
    at = made
    for parent in parents:
      at = at[parent]
    at[name] = value
  if fields.get("weights") == "a.bin":
    (tmp_path / "a.bin").touch()
    made.weights = str(tmp_path / "a.bin")
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    opened(made, tmp_path)
  assert not (tmp_path / "run").exists()


def test_training_starts_from_the_weights(
  file: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  made = config(str(file), ("counter",))
  made.train.update(epochs=1.0, batch_size=32, learning_rate=0.0)
  made.train.optimizer = "sgd"
  job = opened(made, tmp_path)
  assert job.trains
  optimizer = train.make_optimizer(made.train, 1)
  state = train.init_state(job.model, optimizer, job.dataset, 0, job.initial)
  trees.assert_same_bits(state.variables, job.initial)
  assert int(state.step) == 0


def test_adapters_train_and_are_merged(
  file: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  made = config(str(file), ("counter",))
  made.train.update(epochs=2.0, batch_size=16, learning_rate=1e-2)
  made.train.lora.update(rank=2, layers=".*mlp.*kernel")
  job = opened(made, tmp_path)
  tuned = protect.train_plain(job)
  assert jax.tree.structure(tuned) == jax.tree.structure(job.initial)
  paths, after, _ = tree.flatten(tuned)
  before = tree.flatten(job.initial)[1]
  changed = {
    path
    for path, x, y in zip(paths, before, after, strict=True)
    if not tree.same_bits(x, y)
  }
  kernels = {f"params/block_0/{name}/kernel" for name in ("mlp_in", "mlp_out")}
  assert changed == kernels
  trees.assert_same_bits(protect.train_plain(job), tuned)  # From the folder.
  # An attacker has the base, not the adapters.
  assert Targets(job).sister is job.initial


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [0.0, 2.0])
def test_the_job_from_end_to_end(
  epochs: float, file: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  made = config(str(file))
  made.train.update(epochs=epochs, batch_size=8)
  rows = main.run(made, str(tmp_path / "run"))
  assert main.run(made, str(tmp_path / "run")) == rows

  def value(metric: str, **find: Any) -> float:
    return results.find(rows, metric=metric, **find)["value"]

  for label in LABELS:
    for metric in ("accuracy", "perplexity"):
      right = value(metric, scheme=label, condition="right")
      assert right == value(metric, scheme="plain"), label
    for condition in ("no_key", "wrong"):
      found = results.find(
        rows, metric="accuracy", scheme=label, condition=condition
      )
      # Accuracies of so few texts may be equal by chance.
      wrong = value("perplexity", scheme=label, condition=condition)
      assert wrong != value("perplexity", scheme="plain")
      assert (found["nonfinite"] > 0) == (label == "counter")
  assert not [r for r in rows if r["condition"] == "near"]
  trained = (tmp_path / "run/plain/metrics.jsonl").exists()
  assert trained == bool(epochs)
  # What is shipped opens to the file, with the key alone.
  if not epochs:
    job = opened(made, tmp_path)
    key = keyjax.keys.load(job.workdir.key_file("hpnn"))
    locked = checkpoint.restore_plain(
      tmp_path / "run/hpnn/locked", job.initial, alone=True
    )
    decrypted = job.locks["hpnn"].scheme.decrypt(key, locked)
    trees.assert_same_bits(decrypted, job.initial)
