"""Inference on encrypted inputs: the server never sees them.

    parameters    rings and modulus chains of 128-bit security
    network       a network of dense layers and a quadratic, in JAX
    ckks          its answers to inputs encrypted with CKKS
    connection    server and client in two processes
    paillier      a linear layer on inputs encrypted with Paillier

The cryptography is that of TenSEAL (Microsoft SEAL) and of phe:
pip install 'keyjax[homomorphic]'. docs/homomorphic.md has what it guarantees,
what it does not, and figures.

Example:
  >>> import jax
  >>> from keyjax.defenses.homomorphic import network, parameters
  >>> params = network.init(jax.random.key(0), (64, 32, 10))
  >>> layers = network.squared(params)
  >>> parameters.for_levels(network.levels(layers)).degree
  8192
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.defenses.homomorphic import (
    ckks,
    connection,
    network,
    paillier,
    parameters,
  )

__all__ = ["ckks", "connection", "network", "paillier", "parameters"]

__getattr__, __dir__ = lazy.attach(__name__, {})
