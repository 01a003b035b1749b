"""The main job from end to end, and its folders without keys."""

import io
import json
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
import rich.console
from ml_collections import ConfigDict

import keyjax
from experiments import data, main, models
from experiments.protection import lock
from experiments.run import results
from experiments.run.config import (
  attack,
  scheme,
  set_attacks,
  set_schemes,
)
from experiments.tables import markdown, over_seeds, runs
from experiments.training import train
from keyjax import card as cards
from keyjax import checkpoint, keys
from keyjax.attacks import near_keys
from keyjax.card.sections.accuracy import CONDITIONS
from tests import trees
from tests.experiments.main_job import LABELS, NEAR, WRONG, Job, config, job


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Job:
  return job(tmp_path_factory.mktemp("main") / "run")


def of(done: Job, **fields: Any) -> list[dict[str, Any]]:
  return [r for r in done.rows if all(r.get(k) == v for k, v in fields.items())]


# ------------------------------------------------------------------- results


def test_rows_have_every_field_and_are_what_was_written(done: Job) -> None:
  assert json.loads((done.folder / "results.json").read_text()) == done.rows
  for row in done.rows:
    assert set(results.FIELDS) <= set(row), row
    assert row["config"] == "tiny" and row["dataset"] == "digits"
    assert row["commit"] and row["hardware"] and row["date"]
    assert np.isfinite(row["value"])
  assert {r["scheme"] for r in done.rows} == {"plain", *LABELS}


def test_rows_and_what_is_shipped_make_a_card(done: Job) -> None:
  rows = cards.read_rows(done.folder / "results.json")
  for label in LABELS:
    shipped = done.folder / label / "locked"
    card = cards.make(rows, label, model=shipped)
    assert {x["condition"] for x in card["accuracy"]} == set(CONDITIONS)
    assert cards.parse_card(cards.format_card(card)) == card
    cards.check_model(card, shipped)
  assert [p["mechanism"] for p in card["scheme"]["parts"]] == [
    "hpnn",
    "deep_lock",
  ]


def test_a_run_makes_a_table(done: Job) -> None:
  rows = over_seeds.rows(runs.read([str(done.folder)]))
  lines = markdown.table(rows)
  assert len(lines) == 3 + len(LABELS)
  assert len({line.count("|") for line in lines}) == 1


def test_every_protection_is_judged_in_every_condition(done: Job) -> None:
  (plain,) = of(done, scheme="plain", metric="accuracy")
  assert plain["condition"] == "plain" and plain["value"] > 0.4
  assert plain["low"] < plain["value"] < plain["high"]
  for label in LABELS:
    found = of(done, scheme=label, metric="accuracy")
    conditions = [r["condition"] for r in found]
    assert conditions[:4] == ["right", "api", "no_key", "wrong"]
    assert set(conditions[4:]) == {"near"}
    for row in found:
      images = 20 if row["condition"] in ("wrong", "near") else 50
      count = {"wrong": WRONG, "near": NEAR}.get(row["condition"], 1)
      assert (row["images"], row["keys"]) == (images, count), row
      assert 0 <= row["nonfinite"] <= images * count
      assert 0 <= row["value"] <= 1
      assert row["low"] <= row["value"] <= row["high"]


def test_the_right_key_and_the_server_are_one_function(done: Job) -> None:
  for label in LABELS:
    (right,) = of(done, scheme=label, condition="right")
    (api,) = of(done, scheme=label, condition="api")
    assert right | {"condition": "api"} == api


@pytest.mark.parametrize("label", ["deep_lock", "adv"])
def test_a_cipher_with_its_key_is_the_plain_model(
  done: Job, label: str
) -> None:
  (plain,) = of(done, scheme="plain", metric="accuracy")
  (right,) = of(done, scheme=label, condition="right")
  assert right["value"] == plain["value"]
  assert right["nonfinite"] == 0


def plain_variables(done: Job) -> Any:
  """Return the variables of the plain model, from its last checkpoint."""
  digits = data.load("digits", num_train=64, num_test=50)
  model = models.from_config(config(), digits)
  with jax.numpy_dtype_promotion("standard"):
    optimizer = train.make_optimizer(config().train, 24)
    like = train.init_state(model, optimizer, digits, 0)
    with checkpoint.Manager(done.folder / "plain" / "checkpoints") as manager:
      return manager.restore(like).variables


def test_what_is_shipped_opens_to_the_trained_weights(done: Job) -> None:
  """As a user would: with the locked folder and the key file only."""
  digits = data.load("digits", num_train=64, num_test=50)
  model = models.from_config(config(), digits)
  plain = plain_variables(done)
  protection = lock.build("deep_lock", {}, model)
  key = keys.load(done.key_folder / "deep_lock.key")
  shapes = jax.eval_shape(protection.scheme.encrypt, key, plain)
  locked = checkpoint.restore_plain(
    done.folder / "deep_lock" / "locked", shapes
  )
  (no_key,) = of(
    done, scheme="deep_lock", metric="accuracy", condition="no_key"
  )
  stolen = keyjax.tree.as_floats(locked, plain)
  # One word in 256 is not finite.
  bad = int(keyjax.tree.count_nonfinite(stolen))
  assert no_key["nonfinite_weights"] == bad < 1210 // 16
  opened = jax.jit(protection.scheme.decrypt)(key, locked)
  trees.assert_same_bits(opened, plain)
  images = data.to_float(digits.test_images)
  logits = keyjax.authorize(protection.scheme, key, model.apply)(locked, images)
  np.testing.assert_array_equal(logits, model.apply(plain, images))
  (right,) = of(done, scheme="deep_lock", condition="right")
  hits = logits.argmax(-1) == digits.test_labels
  assert right["value"] == pytest.approx(np.mean(hits))


def test_round_trips_and_costs(done: Job) -> None:
  parameters = 64 * 16 + 16 + 16 * 10 + 10
  for label in LABELS:
    (trip,) = of(done, scheme=label, metric="round_trip")
    assert trip["value"] == 1
    (size,) = of(done, scheme=label, metric="key_bytes")
    key = keys.load(done.key_folder / f"{label}.key")
    padding = 12 * int((key.flip == 0).sum()) if label == "adv" else 0
    stored = sum(x.nbytes for x in jax.tree.leaves(key))
    assert size["value"] == stored - padding
    (changed,) = of(done, scheme=label, metric="changed_parameters")
    expected = {
      "deep_lock": (0.99 * parameters, parameters),
      "chain": (0.99 * parameters, parameters),
      "int8": (0.98 * 16 * 74, 16 * 74),
      "adv": (1, 48),
    }.get(label, (0, 0))
    assert expected[0] <= changed["value"] <= expected[1], label
    # A ciphertext has no range, and neither has what is not changed.
    outside = of(done, scheme=label, metric="outside_range")
    assert len(outside) == (label == "adv")


def test_wrong_keys_lose_what_the_drop_says(done: Job) -> None:
  (plain,) = of(done, scheme="plain", metric="accuracy")
  for label in LABELS:
    for condition in ("no_key", "wrong"):
      (accuracy,) = of(
        done, scheme=label, metric="accuracy", condition=condition
      )
      (drop,) = of(done, scheme=label, metric="drop", condition=condition)
      points = 100 * (plain["value"] - accuracy["value"])
      assert drop["value"] == pytest.approx(points)
  (int8,) = of(done, scheme="int8", metric="accuracy", condition="wrong")
  assert int8["nonfinite"] == 0 and int8["value"] < 0.4
  (no_key,) = of(
    done, scheme="deep_lock", metric="accuracy", condition="no_key"
  )
  assert no_key["nonfinite"] > 0


def test_near_keys_are_graded(done: Job) -> None:
  for label in LABELS:
    key = keys.load(done.key_folder / f"{label}.key")
    near = of(done, scheme=label, condition="near", metric="accuracy")
    distances = [r["distance"] for r in near]
    assert distances == sorted(set(distances))
    most = near_keys.max_distance(key)
    # Random keys have half of the bits wrong; no near key needs more.
    most = most // 2 if "bits" in near_keys.unit(key) else most
    assert distances[0] == 1 and distances[-1] == most
    assert {r["unit"] for r in near} == {near_keys.unit(key)}


def test_the_report_and_the_table(done: Job) -> None:
  page = (done.folder / "report.html").read_text()
  assert page.lstrip().lower().startswith("<!doctype html>")
  for title in ("Deep-Lock", "AdvParams", "HPNN", "SHF"):
    assert title in page and title in done.text
  assert str(done.folder / "results.json") in done.text.replace("\n", "")


def test_the_picture_of_weights_is_of_an_untrained_model(done: Job) -> None:
  """The trained weights next to the locked file would reveal the key."""
  outcome = json.loads((done.folder / "adv" / "outcome.json").read_text())
  picture = outcome["figures"]["histogram"]
  assert 1 <= picture["changed"] <= 48
  digits = data.load("digits", num_train=64, num_test=50)
  model = models.from_config(config(), digits)
  with jax.numpy_dtype_promotion("standard"):
    untrained = jax.jit(model.init)(
      jax.random.key(config().train.seed + 1),
      data.to_input(digits.train_images[:1]),
    )
  paths, leaves, _ = keyjax.tree.flatten(untrained)
  weights = leaves[paths.index(picture["leaf"])]
  counts, _ = np.histogram(np.ravel(weights), bins=picture["edges"])
  assert counts.tolist() == picture["before"]
  trained = dict(
    zip(paths, jax.tree.leaves(plain_variables(done)), strict=True)
  )
  counts, _ = np.histogram(
    np.ravel(trained[picture["leaf"]]), bins=picture["edges"]
  )
  assert counts.tolist() != picture["before"]


def shown(rows: list[dict[str, Any]], width: int) -> str:
  """Return the table as a terminal of some width shows it."""
  console = rich.console.Console(width=width, record=True, file=io.StringIO())
  console.print(main.table(rows))
  return console.export_text()


def test_the_table_shows_no_argmax_of_nan(done: Job) -> None:
  text = shown(done.rows, 200)
  (line,) = [x for x in text.splitlines() if "Deep-Lock " in x and "," not in x]
  assert line.split("│")[3].strip() == "NaN"  # Without the key.
  assert "NaN" not in next(x for x in text.splitlines() if "HPNN " in x)


def test_a_narrow_terminal_truncates_no_word(done: Job) -> None:
  text = shown(done.rows, 80)
  assert "…" not in text and "..." not in text
  words = re.findall(r"\w+", text)
  assert {"AdvParams", "int8", "HPNN"} <= set(words)
  body = [line for line in text.splitlines() if line.startswith("│")]
  assert body and all(line.endswith("│") for line in body)


def test_no_lock_and_attacks_in_the_config(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  made = config()
  with made.unlocked():
    del made.schemes
    made.schemes = ConfigDict(sort_keys=False)
  set_schemes(made, none=scheme("identity", "no lock"))
  set_attacks(made, tune=attack("fine_tune"))
  with jax.numpy_dtype_promotion("standard"):
    rows = main.run(made, str(tmp_path / "run"))
  printed = capsys.readouterr().out
  assert "Attacks in the config are for experiments.attack" in printed
  conditions = {r["condition"] for r in rows if r["scheme"] == "none"}
  assert conditions == {"", "right", "api", "no_key"}
  lines = markdown.table(over_seeds.rows(runs.read([str(tmp_path / "run")])))
  assert "no lock" in lines[-1]


# ------------------------------------------------------------------ resuming


def test_a_second_run_changes_nothing(done: Job) -> None:
  def files() -> dict[str, bytes]:
    homes = (done.folder, done.key_folder)
    found = [p for home in homes for p in home.rglob("*") if p.is_file()]
    return {str(p): p.read_bytes() for p in found}

  before = files()
  again = job(done.folder)
  assert again.rows == done.rows
  after = files()
  assert after.keys() == before.keys()
  assert all(after[name] == before[name] for name in before)
  assert again.text.count("done before") == len(LABELS)


def test_a_run_that_stopped_resumes(done: Job, tmp_path: pathlib.Path) -> None:
  """Without one outcome, but with its key and its locked params."""
  copy = tmp_path / "run"
  shutil.copytree(done.folder, copy)
  shutil.copytree(done.key_folder.parent, tmp_path / "run.keys")
  (copy / "hpnn" / "outcome.json").unlink()
  (copy / "results.json").unlink()
  again = job(copy)
  clocks = ("encrypt_seconds", "decrypt_seconds")
  for a, b in zip(done.rows, again.rows, strict=True):
    if a["metric"] not in clocks and a["condition"] != "wrong":
      assert a["value"] == b["value"], (a, b)


def test_a_lost_key_is_not_replaced_next_to_locked_params(
  done: Job, tmp_path: pathlib.Path
) -> None:
  copy = tmp_path / "run"
  shutil.copytree(done.folder, copy)
  shutil.copytree(done.key_folder.parent, tmp_path / "run.keys")
  (copy / "shf" / "outcome.json").unlink()
  (key_folder,) = (tmp_path / "run.keys").iterdir()
  (key_folder / "shf.key").unlink()
  with pytest.raises(ValueError, match="shf: .*their key is not at .*shf.key"):
    job(copy)


# ------------------------------------------------------------ no key material


def needles(key: Any) -> Iterator[bytes]:
  """Yield what would reveal a key: its bytes, hex, and lists of its numbers."""
  for leaf in jax.tree.leaves(key):
    array = np.asarray(leaf).reshape(-1)[:16]
    if array.size < 16 and array.dtype.itemsize * array.size < 16:
      continue  # So few bytes could occur by chance.
    if len(set(array.tolist())) < 3:
      array = np.asarray(leaf).reshape(
        -1
      )  # Bits: only all of them identify the key.
    for order in ("<", ">"):
      raw = array.astype(array.dtype.newbyteorder(order)).tobytes()
      yield raw
      yield raw.hex().encode()
    numbers = array.astype(int).tolist()
    for gap in (", ", ",", " ", ",\n", "\n", ""):
      yield gap.join(map(str, numbers)).encode()


def squeezed(data: bytes) -> bytes:
  return re.sub(rb"\s+", b" ", data)


def test_no_key_material_outside_the_key_folder(done: Job) -> None:
  secret = bytes.fromhex((done.key_folder / "secret").read_text())
  found = [secret, secret.hex().encode(), secret.hex().upper().encode()]
  found += [str([*secret])[1:-1].encode(), ",".join(map(str, secret)).encode()]
  for label in LABELS:
    file = done.key_folder / f"{label}.key"
    assert file.stat().st_mode & 0o777 == 0o600
    more = [*needles(keys.load(file))]
    assert more, label
    found += more
  assert min(map(len, found)) >= 16
  # The search itself works: it finds keys in the key folder.
  held = b"".join(p.read_bytes() for p in done.key_folder.iterdir())
  assert sum(needle in held for needle in found) >= 1 + len(LABELS)
  public = {str(p): p.read_bytes() for p in done.folder.rglob("*")
            if p.is_file()}  # fmt: skip
  public["printed"] = done.text.encode()
  assert len(public) > 30
  for name, content in public.items():
    flat = squeezed(content)
    for needle in found:
      assert needle not in content, f"key material in {name}"
      assert squeezed(needle) not in flat, f"key material in {name}"


def test_a_lock_with_a_mistake_claims_no_folder(
  tmp_path: pathlib.Path,
) -> None:
  wrong = config()
  set_schemes(wrong, last=scheme("shf", block_sise=4))
  with pytest.raises(ValueError, match="shf: unknown argument block_sise"):
    main.run(wrong, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_every_scheme_name_runs_in_some_config() -> None:
  names = {spec.scheme for spec in config().schemes.values()}
  assert names <= set(lock.names())
