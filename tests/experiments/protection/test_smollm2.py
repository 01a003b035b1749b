"""SmolLM2 under the locks of its config, on a few tokens."""

import functools
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

import keyjax
from experiments import data
from experiments.models import packages
from experiments.protection.job import keygen_batch, open_job
from keyjax import Secret
from tests import trees
from tests.experiments.docstrings import load_config


def installed() -> str:
  """Return why SmolLM2 cannot be read here; empty if it can."""
  try:
    import gguf  # noqa: F401
    import tokenizers  # noqa: F401

    packages.find("smollm2")
    data.load("tinyshakespeare")
  except (ImportError, ValueError, data.MissingDataError) as error:
    return str(error)
  return ""


@pytest.mark.slow
def test_the_right_key_is_the_plain_model_in_every_bit(
  tmp_path: pathlib.Path,
) -> None:
  if reason := installed():
    pytest.skip(reason)
  config = load_config("smollm2.py")
  config.context, config.num_test, config.num_train = 16, 2, 2
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    job = open_job(config, str(tmp_path / "run"), "", None, lambda line: None)
    tokens = data.to_input(job.dataset.test_images)
    apply_fn = job.model.apply
    plain = np.asarray(jax.jit(apply_fn)(job.initial, tokens))
    right = (plain.argmax(-1) == job.dataset.test_labels).mean()
    assert right > 0.1, "a language model, and not the chance of 1 in 49,152"
    for label, lock in job.locks.items():
      scheme = lock.scheme
      key, wrong = (
        scheme.keygen(Secret.generate(), job.initial, keygen_batch(job))
        for _ in range(2)
      )
      locked = jax.jit(scheme.encrypt)(key, job.initial)
      opened = jax.jit(scheme.decrypt)(key, locked)
      trees.assert_same_bits(opened, job.initial)
      del opened
      run = functools.partial(_run, scheme, apply_fn, locked, tokens)
      np.testing.assert_array_equal(run(key), plain, label)
      guessed = run(wrong)
      hits = guessed.argmax(-1) == job.dataset.test_labels
      assert hits.mean() < right / 2, label
      assert np.isfinite(guessed).all() == (label != "counter")


def _run(
  scheme: keyjax.Scheme, apply_fn: Any, locked: Any, tokens: Any, key: Any
) -> np.ndarray:
  forward = jax.jit(
    lambda key, locked: keyjax.authorize(scheme, key, apply_fn)(locked, tokens)
  )
  return np.asarray(forward(key, locked))
