"""A picture of images that `pixel_jigsaw` restored from ciphertexts alone."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np
from ml_collections import ConfigDict

from experiments.attacking import rows
from experiments.attacking.targets import Targets
from experiments.run import files
from keyjax import processes
from keyjax.attacks import registry, views
from keyjax.schemes import pixel_shuffle

_SHOWN = 8


def draw(
  path: files.AnyPath,
  config: ConfigDict,
  targets: Targets,
  played: Sequence[tuple[str, str, dict[str, Any]]],
) -> None:
  """Draw the last training images: original, transformed, restored.

  All processes of a run must call it; the first one writes.

  Args:
    path: PNG file to write.
    config: Config with `schemes` and `attacks`.
    targets: Locked models; their keys transform the images.
    played: Scheme label, attack label and row of each strip.
  """
  # [_SHOWN, h, w, c]
  images = targets.job.dataset.train_images[-_SHOWN:].astype(np.float32) / 255
  strips = []
  for scheme, label, row in played:
    title = f"{row['title']}, {row['attack_title']}"
    strips.append(
      (title, *_restore(config, targets, scheme, label, row, images))
    )
  processes.first_does(lambda: _save(path, images, strips))


def _restore(
  config: ConfigDict,
  targets: Targets,
  scheme: str,
  label: str,
  row: dict[str, Any],
  images: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Return images as the scheme transforms them, and as the attack restores."""
  spec = config.attacks[label]
  target = targets.get(scheme)
  attacker = rows.attacker_of(spec, len(target.train.label))
  budget = rows.budget_of(config, label)
  # The row keeps no key: the same attack finds the same one again.
  view = views.view(target, attacker, budget.seed)
  *_, claim = registry.get(spec.attack).run(view, budget, **row["setting"])
  transformed = pixel_shuffle.transform(target.key, jnp.asarray(images))
  restored = pixel_shuffle.inverse(claim.value, transformed)
  return np.asarray(transformed), np.asarray(restored)


def _save(
  path: files.AnyPath,
  images: np.ndarray,
  strips: Sequence[tuple[str, np.ndarray, np.ndarray]],
) -> None:
  matplotlib.use("agg")
  from matplotlib import pyplot as plt

  figure, axes = plt.subplots(
    len(strips) + 1, 1, figsize=(8, 0.62 * len(strips) + 1)
  )
  axes[0].imshow(_row(images), cmap="gray", vmin=0, vmax=1)
  titles = ["original", *(title for title, _, _ in strips)]
  for axis, (_, transformed, restored) in zip(axes[1:], strips, strict=True):
    both = np.concatenate([_row(transformed), _row(restored)], axis=1)
    axis.imshow(both.clip(0, 1), cmap="gray", vmin=0, vmax=1)
  for axis, title in zip(axes, titles, strict=True):
    axis.set_ylabel(title, rotation=0, ha="right", va="center")
    axis.set_xticks([])
    axis.set_yticks([])
  with path.open("wb") as file:
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
  plt.close(figure)


def _row(images: np.ndarray) -> np.ndarray:
  """Return images side by side: [n, h, w, c] -> [h, n * w, c or none]."""
  row = np.concatenate(list(images), axis=1)
  return row if row.shape[-1] == 3 else row[..., 0]
