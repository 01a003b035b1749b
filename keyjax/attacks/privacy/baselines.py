"""Baselines: membership from one answer of the target, without other models.

Needs: an answer of the target for each example: its class (`gap`) or its
probabilities (`loss`), and the true label. Cost: one query an example.

Source: Samuel Yeom, Irene Giacomelli, Matt Fredrikson and Somesh Jha, "Privacy
risk in machine learning: analyzing the connection to overfitting", CSF 2018.
"""

from typing import Any

import numpy as np

from keyjax.attacks.privacy import signals


def gap(logits: Any, labels: Any) -> np.ndarray:
  """Return 1 for examples that are classified right, and else 0.

  Its balanced accuracy is (1 + training accuracy - test accuracy) / 2.

  Args:
    logits: float[n, c] of the target; of an API that returns classes alone,
      any scores of which the predicted class has the greatest.
    labels: int[n].

  Returns:
    float64[n]; NaN where the target's logits are NaN.

  Raises:
    ValueError: If an argument is wrong.

  Example:
    >>> gap(np.array([[2.0, 1.0], [2.0, 1.0]]), np.array([0, 1])).tolist()
    [1.0, 0.0]
  """
  found = signals.log_probabilities(_one_model(logits))
  labels = signals.check_labels(labels, found.shape)
  right = (found.argmax(-1) == labels).astype(np.float64)
  return np.where(np.isnan(found).any(-1), np.nan, right)


def loss(logits: Any, labels: Any) -> np.ndarray:
  """Return minus the cross-entropy of each example.

  Yeom et al. call an example a member if its loss is at most the mean loss of
  the training data: `roc.at_threshold(scores, members, -mean_loss)`.

  Args:
    logits: float[n, c] of the target.
    labels: int[n].

  Returns:
    float64[n]; NaN where the target's logits are NaN.

  Raises:
    ValueError: If an argument is wrong.

  Example:
    >>> logits = np.array([[0.0, 0.0], [0.0, 1.0]])
    >>> loss(logits, np.array([0, 1])).round(2).tolist()
    [-0.69, -0.31]
  """
  return signals.log_confidence(_one_model(logits), labels)


def _one_model(logits: Any) -> np.ndarray:
  return signals.check_values(logits, "logits", (2,))
