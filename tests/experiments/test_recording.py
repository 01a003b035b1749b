"""The recording command: scenes, figures, the page, and what it refuses."""

import json
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import data
from experiments import recording as command
from experiments.recordings import attackers, figures, plan, workers
from experiments.recordings.plan import Scene
from experiments.report import recording as report
from experiments.run import results
from experiments.tables import blocks
from keyjax import card as cards
from keyjax import parallel
from keyjax.attacks.privacy.gradients.observed import of_mean_loss
from tests.experiments.docstrings import load_config

ONE = "mlp_relu"


def small(**fields: Any) -> ConfigDict:
  config = load_config("recording.py")
  config.seeds = 2
  own = config.gradients
  with own.unlocked():
    own.models = ConfigDict({ONE: own.models[ONE]})
  own.models[ONE].args.hidden = (16,)
  own.networks = (ONE,)
  own.update(batch_sizes=(1, 2), devices=2, victims=1, unrelated=10)
  own.update(steps=20, lbfgs_steps=4, restarts=1, train_steps=3)
  own.update(noise=(), clip=0.0, locks=("hpnn", "shf"))
  other = config.online
  other.args.hidden = (16,)
  other.update(pool=40, served=20, steps=20, passes=(5,), answers=("told",))
  other.locks = ()
  config.update_from_flattened_dict(fields)
  return config


def run(config: ConfigDict, folder: pathlib.Path) -> list[dict[str, Any]]:
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    return command.run(config, str(folder))


def test_scenes_are_what_the_config_lists() -> None:
  own = load_config("recording.py").gradients
  found = list(plan.scenes(own))
  assert len(found) == len(set(found)) == 4 * (1 + 1 + 4 + 4 + 2 + 1)
  assert Scene("cnn_relu", 8, "average") in found
  assert plan.attacks(own, Scene(ONE, 4)) == tuple(plan.ATTACKS)
  for scene in (Scene(ONE, lock="shf"), Scene(ONE, 8, "average")):
    assert plan.attacks(own, scene) == ("division", "inverting")


def test_a_name_depends_on_what_a_figure_does() -> None:
  names = [
    plan.name(config, "gradients", "x", 0)
    for config in (
      small(),
      small(**{"gradients.locks": ()}),
      small(**{"gradients.steps": 21}),
    )
  ]
  assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("seeds", 1),
    ("parts", ("gradient",)),
    ("gradients.victims", 0),
    ("gradients.batch_sizes", (0,)),
    ("gradients.clip", -1.0),
    ("gradients.networks", ("mlp_tanh",)),
    ("gradients.noise", (0.0,)),
    ("gradients.attacks", ("dlgs",)),
    ("gradients.strongest", ("dlgs",)),
    ("gradients.locks", ("deep_lock",)),
    (f"gradients.models.{ONE}.model", "mpl"),
    ("online.served", 0),
    ("online.passes", ()),
    ("online.answers", ("none",)),
    ("online.noise", 1.0),
  ],
)
def test_a_wrong_field_is_named(
  field: str, value: Any, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(ValueError, match=rf"^{field}=.*: out of range"):
    run(small(**{field: value}), tmp_path / "run")
  assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def worker() -> workers.Worker:
  dataset = data.load("digits")
  model = workers.network(dataset, small().gradients.models[ONE])
  like = attackers.random_pixels((2, 8, 8, 1))
  return workers.make(model, model.init(jax.random.key(0), like), "", like)


def test_devices_average_as_pmap_does(worker: workers.Worker) -> None:
  images = attackers.random_pixels((2, 8, 8, 1))
  label = np.array([3, 5])
  scene = Scene(ONE, 2, "average")
  found = workers.sent(worker, scene, images, label, 1.0, 0)
  gradient_fn = of_mean_loss(worker.apply_fn)
  targets = jax.nn.one_hot(label, 10)
  one = workers.sent(worker, scene._replace(view="device"), images, label, 1, 0)

  def step(images: Any, targets: Any) -> Any:
    return parallel.mean(gradient_fn(worker.variables, images, targets))

  rows = parallel.split((images, targets), 2)
  mapped = jax.pmap(step, axis_name=parallel.AXIS, devices=jax.devices()[:2])
  truth = jax.tree.map(lambda x: np.asarray(x)[0], mapped(*rows))
  for seen in (found, one):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), seen, truth
    )


def test_a_clipped_gradient_has_its_norm(worker: workers.Worker) -> None:
  pytest.importorskip("jax_privacy", reason="needs keyjax[privacy]")
  images, label = attackers.random_pixels((1, 8, 8, 1)), np.array([3])
  scene = Scene(ONE, defense="clip")
  plain = workers.sent(worker, Scene(ONE), images, label, 0.5, 0)
  clipped = workers.sent(worker, scene, images, label, 0.5, 0)

  def norm(tree: Any) -> float:
    return float(sum(jnp.vdot(x, x) for x in jax.tree.leaves(tree))) ** 0.5

  assert norm(plain) > 1 and norm(clipped) == pytest.approx(0.5, rel=1e-4)
  noisy = scene._replace(defense="noise", noise=2.0)
  count = sum(x.size for x in jax.tree.leaves(plain))
  spread = norm(workers.sent(worker, noisy, images, label, 0.5, 0))
  assert spread == pytest.approx(count**0.5, rel=0.1)


def made(**fields: Any) -> dict[str, Any]:
  base: dict[str, Any] = dict.fromkeys((*figures.NAMES, "title", "commit"), "x")
  base |= {"part": "gradients", "attack_title": "DLG", "images": 4, "row": "r"}
  return base | {"view": "device"} | fields


def test_figures_have_intervals_and_the_page_shows_them() -> None:
  pixels = np.full((1, 2, 2, 1), 7).tolist()
  rows = []
  for seed, value in enumerate((0.25, 0.75)):
    rows += [
      made(seed=seed, metric="named", value=value),
      made(seed=seed, metric="mse", value=value, true=pixels, found=pixels),
      made(
        seed=seed,
        part="online",
        passes=1,
        answers="own",
        metric="auc",
        value=value,
      ),
    ]
  found = figures.over_seeds(rows)
  assert [r["value"] for r in found] == [0.5] * 3
  assert "over 8 images" in found[0]["interval"]
  assert 0 < found[0]["low"] < 0.5 < found[0]["high"] < 1
  assert found[1]["low"] == 0 and found[1]["high"] == 1
  text = report.render(found)
  assert text.count("<img") == 2 and "1 pass, its own answers" in text
  # Two columns, filled in turn: anything else in a figure would move each
  # picture beside another one's name.
  (figure,) = re.findall(r"<figure.*?>(.*?)</figure>", text, re.DOTALL)
  tags = re.findall(r"<(h3|div|figcaption)", figure)
  assert tags == ["h3", "div"] * 2
  assert "0.157 to 0.843" in text and "http" not in text.replace(
    "http-equiv", ""
  )


def test_a_document_quotes_the_figures(tmp_path: pathlib.Path) -> None:
  rows = [
    made(seed=seed, condition="no_key", metric=metric, value=value, date="2")
    | {"hardware": "h", "command": "c", "dataset": "d"}
    for metric, value in (("named", 0.5), ("psnr", 20.0), ("labels", 1.0))
    for seed in range(2)
  ]
  results.write_json(tmp_path / "recording.json", figures.over_seeds(rows))
  block = "<!-- begin recording: x -->\n<!-- end recording -->"
  text = blocks.fill(block, tmp_path)
  assert "| x | x | no key | 4/8, 20.0 (20.0 to 20.0) |  |" in text
  assert "(`c`; d; 2 seeds;" in text


@pytest.mark.slow
def test_gradients_and_updates_are_attacked(tmp_path: pathlib.Path) -> None:
  config = small(**{"online.locks": ("hpnn",)})
  rows = run(config, tmp_path / "run")
  by = figures.scenes(rows)
  division = "division, first dense layer"
  for scene in ("1 image", "1 image, trained network"):
    found = by["MLP, relu", scene, "plain", division]
    assert found["named"]["value"] == 1 and found["psnr"]["value"] > 40
  assert by["MLP, relu", "1 image", "plain", "iDLG"]["labels"]["value"] == 1
  for condition in ("right", "wrong", "no_key"):
    hpnn = by["MLP, relu", "1 image, HPNN", condition, division]
    assert hpnn["psnr"]["value"] > 40, "its key does not change the quotient"
  shf = {k: by["MLP, relu", "1 image, SHF", k, division]["psnr"]["value"]
         for k in ("keyed", "no_key", "right", "wrong")}  # fmt: skip
  assert min(shf["keyed"], shf["right"]) > 40 > max(shf["no_key"], shf["wrong"])
  served = figures.online(rows)
  told, fall = "5 passes, the right answers", "fall of the loss"
  later = served["no lock", told, "plain", fall]
  frozen = served["no lock", "frozen", "plain", "loss"]
  for condition in ("right", "wrong", "no_key"):
    assert served["HPNN", told, condition, fall]["auc"]["nan"] == 0
  assert later["auc"]["value"] > frozen["auc"]["value"]
  file = tmp_path / "run" / "recording.jsonl"
  before = file.read_bytes()
  assert run(config, tmp_path / "run") == rows
  assert file.read_bytes() == before
  assert {json.loads(x)["seed"] for x in before.splitlines()} == {0, 1}
  listed = cards.read_rows(tmp_path / "run" / "recording.json")
  with pytest.raises(cards.CardError, match="disagree on 'model'"):
    cards.make(listed, "hpnn")
  found = {}
  for part in plan.PARTS:
    own = [r for r in listed if r["part"] == part]
    card = cards.make(own, "hpnn")
    assert cards.parse_card(cards.format_card(card)) == card
    assert len(card["runs"]) == 1
    found |= card["leaks"]
  named = {
    x["condition"]: x["value"]
    for x in found["gradients"]
    if x["attack"] == "division" and x["metric"] == "named" and not x["trained"]
  }
  assert set(named) == {"plain", "right", "wrong", "no_key"}
  assert named["wrong"] == 1, "signs of a key cancel in the quotient"
  conditions = {"plain", "right", "wrong", "no_key"}
  assert {x["condition"] for x in found["updates"]} == conditions
  assert {x["members"] for x in found["updates"]} == {20}


def test_too_few_images_are_refused(tmp_path: pathlib.Path) -> None:
  config = small(**{"online.pool": 10**6, "parts": ("online",)})
  with pytest.raises(ValueError, match=r"online\.pool=1000000 and twice"):
    run(config, tmp_path / "run")
