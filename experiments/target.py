"""From the folder of a finished run to a target that attacks are played on."""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import data, lock, models
from keyjax import checkpoint, keys
from keyjax.attacks.game import Examples, Target


def load(
  workdir: str, label: str, keydir: str = "", num_test: int = 0
) -> Target:
  """Returns the locked model of a run, with all that its owner knows.

  Args:
    workdir: of `experiments.main`.
    label: a name in `config.schemes`.
    keydir: where its keys are; `<workdir>.keys` by default.
    num_test: the test images that models are judged on; 0: all.

  Raises:
    FileNotFoundError: there is no such run, lock or key.
    ValueError: the run has no protection of that name.
  """
  folder = pathlib.Path(workdir).resolve()
  run = json.loads((folder / "run.json").read_text())
  config = ConfigDict(run["config"])
  if label not in config.schemes:
    known = ", ".join(config.schemes)
    raise ValueError(f"{workdir} has no {label!r}; it has {known}")
  key = keys.load(
    pathlib.Path(keydir or f"{folder}.keys") / run["id"] / f"{label}.key"
  )
  dataset = data.load(config.dataset, config.data_dir or None, None)
  model = models.create(
    config.model,
    dataset.num_classes,
    dataset.mean,
    dataset.std,
    **config.model_args.to_dict(),
  )
  spec = config.schemes[label]
  this = lock.build(spec.scheme, spec.args.to_dict(), model)
  x = jnp.zeros((1, *dataset.train_images.shape[1:]))

  def init(rng: jax.Array) -> Any:
    return model.init(rng, x)

  like = jax.eval_shape(
    lambda: this.scheme.encrypt(key, this.prepare(init(jax.random.key(0))))
  )
  locked = jax.device_get(checkpoint.restore(folder / label / "locked", like))
  stop = num_test or len(dataset.test_labels)
  return Target(
    name=spec.scheme,
    scheme=this.scheme,
    key=key,
    params=jax.device_get(this.scheme.decrypt(key, locked)),
    locked=locked,
    apply_fn=model.apply,
    init=init,
    train=_examples(dataset.train_images, dataset.train_labels),
    test=_examples(dataset.test_images[:stop], dataset.test_labels[:stop]),
    options=spec.args.to_dict(),
  )


def _examples(images: Any, labels: Any) -> Examples:
  return Examples(jax.device_get(data.to_float(images)), labels)
