"""Black boxes of six kinds, attacked through a substitute network."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.studies import base, substitute
from keyjax.attacks.substitute import Oracle

TITLE = "Black boxes of other kinds"
SENTENCE = (
  "Adversarial inputs transfer between learning techniques: a substitute "
  "network fools logistic regression, support vectors, neighbours and trees."
)
DATASETS = ("digits",)

# 50 * 2^3 + 400 * 2 = 1,200 labels.
_PLAN = substitute.Plan(seeds=50, rounds=5, reservoir_after=3)
_EPSILONS = (0.1, 0.2, 0.3)
_PROTOTYPE = {
  "network": (22, 66, 95),
  "logistic regression": (23, 64, 94),
  "support vectors": (9, 42, 89),
  "neighbours": (6, 20, 48),
  "random forest": (31, 66, 95),
  "tree": (63, 71, 92),
}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return agreement and errors of each kind."""
  figures = []
  for name, box in _boxes(lab):
    percent = zip(_EPSILONS, _PROTOTYPE[name], strict=True)
    targets = {e: f"{p} % (prototype)" for e, p in percent}
    outcome = substitute.attack(lab, box, _PLAN, _EPSILONS)
    right = box(lab.test.image) == lab.test.label
    figures.append(base.share(f"{name}: accuracy", right))
    figures += outcome.figures(name, targets)
  return figures


def _boxes(lab: base.Lab) -> Iterator[tuple[str, Oracle]]:
  # Here, because these imports take seconds.
  from sklearn.ensemble import RandomForestClassifier
  from sklearn.linear_model import LogisticRegression
  from sklearn.neighbors import KNeighborsClassifier
  from sklearn.svm import SVC
  from sklearn.tree import DecisionTreeClassifier

  network = base.standard(lab)
  yield "network", substitute.labels_of(network.logits_fn)
  for name, model in (
    ("logistic regression", LogisticRegression(max_iter=1000)),
    ("support vectors", SVC()),  # Radial basis functions.
    ("neighbours", KNeighborsClassifier()),
    ("random forest", RandomForestClassifier(random_state=lab.seed)),
    ("tree", DecisionTreeClassifier(random_state=lab.seed)),
  ):
    yield name, _fitted(model, lab)


def _fitted(model: Any, lab: base.Lab) -> Oracle:
  def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)

  model.fit(flat(lab.train.image), lab.train.label)
  return lambda images: model.predict(flat(images))
