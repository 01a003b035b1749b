"""A kept key file locks no other weights: its nonce would come back."""

import pathlib
import types
from typing import Any

import jax.numpy as jnp
import pytest

import keyjax
from experiments.protection import lock, protect
from keyjax import Secret


def test_a_run_does_not_lock_other_weights_under_a_kept_key(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """The folder of the locked weights is deleted, and training is repeated."""
  params = {"w": jnp.zeros(4)}
  monkeypatch.setattr(protect, "keygen_batch", lambda job: None)
  made = lock.Lock(
    keyjax.deep_lock("counter"), False, lambda x: x, lambda p, x: x
  )
  job: Any = types.SimpleNamespace(
    locks={"a": made},
    log=lambda line: None,
    workdir=types.SimpleNamespace(
      key_file=lambda label: tmp_path / "a.key",
      folder=lambda label: tmp_path / label,
      secret=Secret.generate(),
    ),
  )
  for _ in range(2):
    key = protect.claim_key(job, "a", params, params)
    made.scheme.encrypt(key, params)
  other = {"w": jnp.ones(4)}
  with pytest.raises(ValueError, match="a: .*makes one when that file is mov"):
    protect.claim_key(job, "a", other, other)
  (tmp_path / "a.key").rename(tmp_path / "kept.key")
  protect.claim_key(job, "a", other, other)
