"""The comparison of attacks on inputs with AutoAttack and Foolbox."""

import contextlib
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.parity import cases, comparison, networks
from experiments.tables import parity

CASE = cases.Case("mnist", "pgd", "linf", 0.1, n=3, seeds=2)
WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def logits_fn(x: Any) -> Any:
  return x.reshape(len(x), 4) @ jnp.asarray(WEIGHTS)


class Peer:
  """Answers as the side of PyTorch does, with accuracies given to it."""

  def __init__(self, network: networks.Network, accuracies: list[float]):
    self.network = network
    self.accuracies = accuracies
    self.off = 0.0
    self.largest = 0.1

  def __call__(self, request: Any) -> Any:
    if request is None:
      logits = np.asarray(logits_fn(self.network.images)) + self.off
      return {"logits": logits.tolist(), "versions": {"torch": "2"}}
    if "changed" in request:
      changed = np.load(request["changed"])
      assert changed.shape == self.network.images.shape
      if request["case"]["epsilon"]:
        assert np.abs(changed - self.network.images).max() <= 0.1 + 1e-6
    value = self.accuracies.pop(0)
    return {
      "accuracy": value,
      "largest": self.largest,
      "median": value,
      "seconds": 2.0,
    }


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Peer:
  """Put a peer in the place of PyTorch."""
  images = np.random.default_rng(1).uniform(size=(3, 2, 2, 1))
  network = networks.Network(
    logits_fn, images.astype(np.float32), np.array([0, 1, 2], np.int32), {}
  )
  made = Peer(network, [0.5, 0.25, 0.25, 0.5])
  monkeypatch.setattr(networks, "load", lambda *_: network)
  monkeypatch.setattr(
    comparison, "_peer", lambda _: contextlib.nullcontext(made)
  )
  return made


def test_differences_are_of_each_seed_and_become_tables(
  peer: Peer, tmp_path: pathlib.Path
) -> None:
  reached, speed = comparison.rows(9, (CASE,))
  # 50 - 25 and 25 - 50 points.
  assert (reached["low"], reached["value"], reached["high"]) == (-25, 0, 25)
  assert reached["keyjax"] == [0.5, 0.25] and reached["unit"] == "points"
  assert reached["versions"]["torch"] == "2"
  assert speed["reference"] == [1.5, 1.5] and len(speed["keyjax"]) == 1
  assert speed["compilation"] > 0

  peer.accuracies = [1.02, 1.0]
  least = CASE._replace(attack="deepfool", norm="l2", epsilon=0.0, seeds=1)
  distance, _ = comparison.rows(1, (least,))
  assert distance["unit"] == "%" and round(distance["value"], 6) == 2
  origin = dict.fromkeys(("command", "commit", "hardware", "date", "jax"), "x")
  rows = [origin | row for row in (reached, speed)]
  (tmp_path / "parity.json").write_text(json.dumps(rows))
  table = "\n".join(parity.parity(tmp_path))
  assert "| PGD | 3, 2 | 37.5 (25.0 to 50.0) | 37.5 (25.0 to 50.0) |" in table


def test_an_export_that_differs_is_refused(peer: Peer) -> None:
  peer.off = 1e-3
  with pytest.raises(ValueError, match="logits differ by"):
    next(comparison.rows(1, (CASE,)))


def test_a_change_outside_the_ball_is_refused(peer: Peer) -> None:
  peer.largest = 0.11
  with pytest.raises(ValueError, match="outside the ball"):
    next(comparison.rows(1, (CASE,)))


def test_no_results_are_no_table(tmp_path: pathlib.Path) -> None:
  assert parity.parity(tmp_path) == []


def test_cases_are_of_known_networks_and_differ() -> None:
  assert {case.network for case in cases.CASES} == set(networks.NETWORKS)
  assert len(set(cases.CASES)) == len(cases.CASES)
  assert {case.peer for case in cases.CASES} == {"AutoAttack", "Foolbox"}
