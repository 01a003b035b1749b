r"""What transformed images give away by themselves: no model, no key, no label.

    python -m experiments.attacking.jigsaw --dataset=cifar10 --out=runs/jigsaw

For SHF, NP and FFX at M=4, and SHF at M=2, it draws a key, transforms the last
1, 10, 100 and 1,000 training images, lets `pixel_jigsaw` find the key from
those alone, and says how many positions it has right and how near the restored
images are. It writes OUT/<dataset>.json, and OUT/<dataset>.png: original,
transformed, restored. The same attack has a row in `configs/matrix.py`.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np
from absl import app, flags, logging

import keyjax
from experiments import data
from experiments.run import ending, out, results
from keyjax.attacks.pixel_shuffle import block_referees, jigsaw
from keyjax.schemes import pixel_shuffle
from keyjax.schemes.pixel_shuffle import PixelKey

_DATASET = flags.DEFINE_string("dataset", "mnist", "See experiments.data.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Folder of TFDS data sets.")
_LOCKS = (("shf", 4), ("np", 4), ("ffx", 4), ("shf", 2))
_COUNTS = (1, 10, 100, 1000)
_SHOWN = 8


def run(
  dataset: str, data_dir: str, out: str, counts: Sequence[int] = _COUNTS
) -> list[dict[str, Any]]:
  """Plays every lock with every number of images; returns rows.

  Args:
    dataset: a name of `experiments.data`.
    data_dir: where it is; found by itself when empty.
    out: a folder for the rows and the picture.
    counts: numbers of transformed images.
  """
  loaded = data.load(dataset, data_dir or None)
  images = loaded.train_images[-max(counts) :].astype(np.float32) / 255
  own = loaded.train_images[: max(counts)].astype(np.float32) / 255
  folder = pathlib.Path(out)
  folder.mkdir(parents=True, exist_ok=True)
  base = results.provenance() | {"dataset": dataset}
  rows, pictures = [], []
  for kind, m in _LOCKS:
    scheme = keyjax.pixel_shuffle(kind, m)
    key = scheme.keygen(keyjax.Secret.generate(), None, {"image": images})
    seen = np.asarray(pixel_shuffle.transform(key, jnp.asarray(images)))
    for count in counts:
      for template in ("model", "images") if kind == "shf" else ("none",):
        found = _attack(kind, m, seen[-count:], own, template)
        back = np.asarray(pixel_shuffle.inverse(found, jnp.asarray(seen)))
        share = block_referees.share(found, key)
        rows.append(
          results.row(
            base,
            scheme=kind,
            metric="key_share",
            value=share,
            block_size=m,
            images=count,
            template=template,
            pixels=_pixels(found, key, images.shape[-1]),
            psnr=_psnr(back, images),
          )
        )
        print(_said(rows[-1]))
      if m == 4 and count in (1, 10):
        pictures.append((f"{kind.upper()}, {count}", seen, back))
  results.write_json(folder / f"{dataset}.json", rows)
  _draw(folder / f"{dataset}.png", images, pictures)
  return rows


def _attack(
  kind: str, m: int, seen: np.ndarray, own: np.ndarray, template: str
) -> PixelKey:
  chosen = own if template == "images" else None
  return jigsaw.solve(kind, m, seen, chosen, restarts=5)


def _pixels(found: PixelKey, key: PixelKey, channels: int) -> float | None:
  """Returns the share of values at the right pixel, whatever their colour."""
  if not isinstance(found, pixel_shuffle.ShfKey):
    return None
  assert isinstance(key, pixel_shuffle.ShfKey)
  a, b = (np.asarray(k.order) // channels for k in (found, key))
  return float((a == b).mean())


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
  """Returns the peak signal-to-noise ratio in dB, at most 99."""
  error = float(((a - b) ** 2).mean())
  return min(-10 * float(np.log10(max(error, 1e-12))), 99.0)


def _said(row: dict[str, Any]) -> str:
  return (
    f"{row['dataset']} {row['scheme']} M={row['block_size']} "
    f"{row['images']} images, {row['template']}: "
    f"{100 * row['value']:.1f} % of positions, {row['psnr']:.1f} dB"
  )


def _draw(path: pathlib.Path, images: np.ndarray, pictures: list) -> None:
  matplotlib.use("agg")
  from matplotlib import pyplot as plt

  figure, axes = plt.subplots(
    len(pictures) + 1, 1, figsize=(8, 0.62 * len(pictures) + 1)
  )
  axes[0].imshow(_strip(images), cmap="gray", vmin=0, vmax=1)
  axes[0].set_ylabel("original", rotation=0, ha="right", va="center")
  for axis, (title, seen, back) in zip(axes[1:], pictures, strict=True):
    both = np.concatenate([_strip(seen), _strip(back)], axis=1)
    axis.imshow(both.clip(0, 1), cmap="gray", vmin=0, vmax=1)
    axis.set_ylabel(title, rotation=0, ha="right", va="center")
  for axis in axes:
    axis.set_xticks([])
    axis.set_yticks([])
  figure.savefig(path, dpi=110, bbox_inches="tight")
  plt.close(figure)


def _strip(images: np.ndarray) -> np.ndarray:
  """Returns some images side by side."""
  row = np.concatenate(list(images[-_SHOWN:]), axis=1)
  return row if row.shape[-1] == 3 else row[..., 0]


def main(argv: list[str]) -> None:
  """Runs from the command line."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  logging.set_verbosity(logging.ERROR)  # Notes of JAX and TFDS.
  with ending.one_line():
    run(_DATASET.value, _DATA_DIR.value, str(out.folder("runs/jigsaw")))


if __name__ == "__main__":
  app.run(main)
