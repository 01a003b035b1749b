"""Two real processes train HPNN as one does, and resume after one is lost."""

import contextlib
import json
import pathlib
import shutil
import signal
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from experiments import data, main, models
from experiments.run.config import base
from experiments.training import train
from keyjax import Secret, checkpoint, keyring
from tests import flags, ports, trees
from tests.experiments import command

pytestmark = pytest.mark.multiprocess

STEPS = 60  # 60 epochs of one batch
CONFIG = """
from experiments.run.config import base, scheme, set_schemes

def get_config():
  config = base()
  config.name = "two"
  config.model = "mlp"
  config.model_args.hidden = (16,)
  config.num_train = 64  # The search for the picture takes as many.
  config.num_test = 50
  config.train.update(batch_size=64, epochs=60.0, log_every=1)
  config.train.update(checkpoint_every=12, pad=1)
  config.evaluate.update(wrong_keys=2, wrong_images=20, distance_keys=1)
  adv_params = scheme("adv_params", "AdvParams", theta=0.5, max_steps=4)
  hpnn = scheme("hpnn", "HPNN", units=32)
  set_schemes(config, adv_params=adv_params, hpnn=hpnn)
  return config
"""
SECRET = keyring.format_key(Secret(b"\x5a" * 32))
OTHER = keyring.format_key(Secret(b"\xa5" * 32))


def start(
  folder: pathlib.Path,
  process: int | None = None,
  port: int = 0,
  secret: str | None = SECRET,
) -> command.Started:
  """Start the main job: one process with 8 devices, or one of two with 4."""
  config = folder.parent / "config.py"
  config.write_text(CONFIG)
  args = [f"--config={config}", f"--workdir={folder}"]
  count = 8 if process is None else 4
  env = {"XLA_FLAGS": flags.with_devices(count)}
  if secret:
    args.append("--secret=env:TWO_SECRET")
    env["TWO_SECRET"] = secret
  if process is not None:
    args += [f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
    args.append(f"--process_id={process}")
  return command.Started("main", *args, **env)


def start_two(
  folder: pathlib.Path, *secrets: str | None
) -> list[command.Started]:
  port = ports.free_port()
  secrets = secrets or (SECRET, SECRET)
  return [start(folder, i, port, s) for i, s in enumerate(secrets)]


def finish(processes: list[command.Started]) -> list[str]:
  """Wait; return what each process printed."""
  try:
    ended = [p.wait(600) for p in processes]
    return [x.stdout + x.stderr for x in ended]
  finally:
    for process in processes:
      process.kill()  # SIGTERM asks a run to save first.


@contextlib.contextmanager
def killed_at_exit(
  processes: list[command.Started],
) -> Iterator[list[command.Started]]:
  """Kill processes, as a cluster does when a machine is gone."""
  try:
    yield processes
  finally:
    for process in reversed(processes):
      process.kill()
    for process in processes:
      process.wait()


def losses(folder: pathlib.Path, label: str) -> np.ndarray:
  lines = (folder / label / "metrics.jsonl").read_text().splitlines()
  rows = [json.loads(x) for x in lines]
  assert [r["step"] for r in rows] == list(range(1, STEPS + 1))
  return np.array([r["loss"] for r in rows])


def state(folder: pathlib.Path, label: str) -> Any:
  """Return the last checkpoint of a finished run as NumPy arrays."""
  digits = data.load("digits", num_train=64, num_test=50)
  model = models.create("mlp", 10, digits.mean, digits.std, hidden=(16,))
  optimizer = train.make_optimizer(base().train, STEPS)
  like = train.init_state(model, optimizer, digits, seed=0)
  with checkpoint.Manager(folder / label / "checkpoints") as manager:
    assert manager.latest_step() == STEPS
    return manager.restore(like)


def wait_for_step(folder: pathlib.Path, label: str, step: int) -> None:
  """Wait until a run has logged a step."""
  file = folder / label / "metrics.jsonl"
  end = time.monotonic() + 120
  while time.monotonic() < end:
    if file.exists() and len(file.read_text().splitlines()) >= step:
      return
    time.sleep(0.01)
  raise AssertionError(f"no step {step} of {label}")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("one") / "run"
  scope: dict[str, Any] = {}
  exec(CONFIG, scope)  # noqa: S102
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    main.run(scope["get_config"](), str(folder), secret=Secret(b"\x5a" * 32))
  return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("two") / "run"
  processes = start_two(folder)
  texts = finish(processes)
  assert [p.returncode for p in processes] == [0, 0], texts
  assert "bit for bit" in texts[0] and "bit for bit" not in texts[1]
  return folder


@pytest.mark.slow
def test_two_processes_train_as_one(
  one: pathlib.Path, two: pathlib.Path
) -> None:
  for label in ("plain", "hpnn"):
    # Sums over devices have another order: equal within float rounding.
    np.testing.assert_allclose(
      losses(two, label), losses(one, label), rtol=2e-5
    )
  # Each process counted its share of the images, and wrote no row.
  alone, together = accuracies(one), accuracies(two)
  assert alone.keys() == together.keys()
  for case, row in alone.items():
    same = together[case]
    assert (row["images"], row["keys"]) == (same["images"], same["keys"])
    if row["condition"] != "wrong":  # Wrong keys are random.
      assert abs(row["value"] - same["value"]) <= 0.02, case
  assert not any(SECRET in f.read_text(errors="replace") for f in files(two))
  # The first process makes a key for the report's picture without the others.
  outcome = json.loads((two / "adv_params" / "outcome.json").read_text())
  assert outcome["figures"]["histogram"]["changed"] > 0


def accuracies(folder: pathlib.Path) -> dict[tuple[Any, ...], dict[str, Any]]:
  rows = json.loads((folder / "results.json").read_text())
  return {
    (r["scheme"], r["condition"], r.get("distance")): r
    for r in rows
    if r["metric"] == "accuracy"
  }


def files(folder: pathlib.Path) -> list[pathlib.Path]:
  return [f for f in folder.parent.rglob("*") if f.is_file()]


def test_processes_see_disjoint_rows() -> None:
  digits = data.load("digits", num_train=192)
  whole = data.batches(digits, 64, seed=0)
  parts = [data.batches(digits, 64, 0, i, 2) for i in (0, 1)]
  for step in range(6):
    both = [p[step]["image"] for p in parts]
    np.testing.assert_array_equal(np.concatenate(both), whole[step]["image"])


@pytest.mark.slow
def test_killed_process_and_restart(
  two: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  folder = tmp_path / "run"
  step = int(np.random.default_rng().integers(13, STEPS // 2))
  with killed_at_exit(start_two(folder)):
    wait_for_step(folder, "hpnn", step)
  lines = (folder / "hpnn" / "metrics.jsonl").read_text().splitlines()
  assert step <= len(lines) < STEPS
  processes = start_two(folder)
  texts = finish(processes)
  assert [p.returncode for p in processes] == [0, 0], texts
  for label in ("plain", "hpnn"):
    trees.assert_same_bits(state(folder, label), state(two, label))
    np.testing.assert_array_equal(losses(folder, label), losses(two, label))


@pytest.mark.slow
@pytest.mark.parametrize("label", ["adv_params", "hpnn"])
def test_if_the_first_process_fails_the_other_stops(
  two: pathlib.Path, tmp_path: pathlib.Path, label: str
) -> None:
  """Training is done; the first process finds no key for a locked file."""
  folder = tmp_path / "run"
  for end in ("", ".keys"):
    shutil.copytree(f"{two}{end}", f"{folder}{end}")
  (folder / label / "outcome.json").unlink()
  for key in folder.parent.rglob(f"{label}.key"):
    key.unlink()
  processes = start_two(folder)
  first, second = finish(processes)
  assert [p.returncode for p in processes] == [1, 1]
  assert "params are locked, but their key is not at" in first
  assert "another process of this run failed" in second


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_preempted_processes_save_and_resume(
  two: pathlib.Path, tmp_path: pathlib.Path, number: int
) -> None:
  folder = tmp_path / "run"
  with killed_at_exit(start_two(folder)) as processes:
    wait_for_step(folder, "plain", 2)
    processes[1].send_signal(number)
    texts = finish(processes)
  assert [p.returncode for p in processes] == [75, 75], texts
  assert all("is saved; run the same command" in t for t in texts)
  # It resumes in one process: other hosts, the same batches.
  process = start(folder)
  (text,) = finish([process])
  assert process.returncode == 0, text
  np.testing.assert_allclose(
    losses(folder, "hpnn"), losses(two, "hpnn"), rtol=2e-5
  )


@pytest.mark.parametrize(
  "secrets, text",
  [
    ((SECRET, None), "not all of them were given the secret"),
    pytest.param(
      (SECRET, OTHER),
      "not all processes were given the same secret",
      marks=pytest.mark.slow,
    ),
  ],
)
def test_host_without_the_secret_refuses(
  tmp_path: pathlib.Path, secrets: tuple[str | None, ...], text: str
) -> None:
  processes = start_two(tmp_path / "run", *secrets)
  texts = finish(processes)
  assert all(p.returncode == 1 for p in processes)
  assert all(text in t for t in texts), texts
  assert not (tmp_path / "run").exists()
  assert not any(s in t for s in secrets if s for t in texts)


@pytest.mark.slow
def test_other_secret_on_resumption_is_refused(
  one: pathlib.Path,
) -> None:
  processes = start_two(one, OTHER, OTHER)
  first, second = finish(processes)
  assert [p.returncode for p in processes] == [1, 1]
  assert "holds a run that began with the secret" in first
  assert "another process of this run could not open" in second
  assert jax.process_count() == 1
