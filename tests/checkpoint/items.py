"""Items of all kinds, plain and sealed, for tests of a Manager."""

from typing import Any

import grain
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from keyjax import Secret, keyring

OWNER = keyring.SymmetricKey(Secret(b"O" * 32))
OTHER = keyring.SymmetricKey(Secret(b"P" * 32))
SIGNER = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SEALED: Any = {"recipients": OWNER, "identities": OWNER, "signer": SIGNER}
PLAIN: Any = {}
BOTH = pytest.mark.parametrize("people", [PLAIN, SEALED], ids=["plain", "seal"])
PARAMS = {"dense": {"kernel": jnp.arange(6.0).reshape(2, 3)}}
OPT_STATE = optax.chain(optax.clip(1.0), optax.adam(0.1)).init(PARAMS)
CONFIG = {"name": "needle-config", "layers": [1, 2, {"a": None}], "rate": 0.1}
METRICS = {"needle_metric": 0.1234567}
Save = ocp.args.StandardSave
Restore = ocp.args.StandardRestore


def pipeline() -> Any:
  source = grain.MapDataset.source(list(range(100))).shuffle(seed=3)
  return iter(source.to_iter_dataset())


def items(value: float, **more: Any) -> Any:
  params = jax.tree.map(lambda x: x + value, PARAMS)
  return ocp.args.Composite(
    params=Save(params),
    opt_state=ocp.args.PyTreeSave(OPT_STATE),
    config=ocp.args.JsonSave(CONFIG | {"value": value}),
    **more,
  )
