"""All attacks on digits: the order in which they stand, and about how far."""

import numpy as np
import pytest

from keyjax.attacks.privacy import (
  baselines,
  label_only,
  lira,
  rmia,
  roc,
  shokri,
  signals,
  stacked,
)
from tests.attacks.privacy import models


def every_attack(noise):
  """Return the scores of each attack, and who is a member."""
  net, data, rest, found = models.digits(noise)
  members, logits = found.members, found.logits
  assert logits is not None
  phi = signals.log_odds(logits, data.label)
  logs = signals.log_confidence(logits, data.label)
  z_logits = stacked.answers(net.apply, found.params, rest.image, chunk=65)
  z = signals.log_confidence(z_logits, rest.label)
  p = np.exp(signals.log_probabilities(logits))
  attack = shokri.fit(p[1:], data.label, members[1:], steps=2000)

  def predict(x):
    params = {"params": {
      name: {k: v[0] for k, v in leaves.items()}
      for name, leaves in found.params["params"].items()
    }}  # fmt: skip
    return np.asarray(net.apply(params, x).argmax(-1))

  copies = label_only.noise(data.image, 0.2, copies=100)
  others = phi[0], phi[1:], members[1:]
  ratios = logs[0], logs[1:], members[1:], z[0], z[1:]
  return members[0], {
    "gap": baselines.gap(logits[0], data.label),
    "loss": baselines.loss(logits[0], data.label),
    "label only": label_only.ask(predict, data.label, copies).scores,
    "shokri": shokri.scores(attack, p[0], data.label),
    "lira": lira.scores(*others),
    "lira fixed": lira.scores(*others, variance="fixed"),
    "lira pooled": lira.scores(*others, variance="pooled"),
    "lira offline": lira.scores(*others, online=False),
    "rmia": rmia.scores(*ratios),
    "rmia offline": rmia.scores(*ratios, online=False),
  }


@pytest.mark.slow
@pytest.mark.parametrize(
  ("noise", "wanted"),
  [
    (0.0, {"loss": 0.57, "shokri": 0.63, "lira": 0.72}),
    (0.2, {"loss": 0.68, "shokri": 0.70, "lira": 0.85}),
  ],
)
def test_attacks_find_about_as_much_as_the_survey_measured(noise, wanted):
  members, scores = every_attack(noise)
  curves = {name: roc.curve(x, members) for name, x in scores.items()}
  areas = {name: roc.auc(found) for name, found in curves.items()}
  for name, area in areas.items():
    low = roc.tpr_at(curves[name], 0.01)
    print(f"{noise} {name:13} AUC {area:.3f} TPR at 1 % {100 * low:.1f} %")
  for name, value in wanted.items():
    # The attack models here are better than those of the survey's figures.
    above = 0.15 if name == "shokri" else 0.08
    assert value - 0.08 < areas[name] < value + above, areas
  assert areas["gap"] < areas["shokri"] < areas["lira"]
  assert areas["rmia"] > areas["loss"] + 0.02
  assert areas["label only"] > areas["gap"] - 0.01
  lows = {name: roc.tpr_at(found, 0.01) for name, found in curves.items()}
  assert lows["lira"] > 2 * lows["shokri"]
