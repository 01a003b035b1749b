"""The compiled cipher in a process: signals, its end, and the circuit."""

import os
import subprocess
import sys

import pytest

PREPARE = """
import signal, sys, time
import jax, jax.numpy as jnp, numpy as np
import keyjax
from keyjax import aes, seal
from keyjax.aes import native
from keyjax.seal import device

key = seal.seal_key(bytes(32), salt=bytes(24))
data = jnp.arange(2000, dtype=jnp.uint8)
scheme = keyjax.deep_lock("counter")
"""
STORM = """
good = bytes(seal.seal_array(key, data))
altered = jnp.asarray(np.frombuffer(good, np.uint8)).at[100].add(1)[56:]
args = key.round_keys, key.base_nonce, altered
whole = key.round_keys, key.base_nonce, data, key.header

def step():  # Not seal_array: signals would hit its checks, not the cipher.
  assert bytes(device.seal_chunks(*whole)) == good, "wrong bytes"
  out, valid = device.open_chunks(*args)
  assert not valid and not np.asarray(out).any(), "forged"

def interrupt(*_):
  raise KeyboardInterrupt("\\udcff")  # No encoding has this character.

step()
signal.signal(signal.SIGALRM, interrupt)
steps, interrupts, end = 0, 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
  try:
    try:
      signal.setitimer(signal.ITIMER_REAL, 3e-4)
      while True:
        step()
        steps += 1
    finally:
      interrupts += 1
  except KeyboardInterrupt:
    pass
print(steps, interrupts)
assert interrupts > 100
"""
PENDING = """
size, how = int(sys.argv[1]), sys.argv[2]
params = {"w": jnp.ones((size, size))}
locked = scheme.keygen(keyjax.Secret(b"T" * 32), params, None)
run = jax.jit(scheme.encrypt)
pending = run(locked, params)
if how == "thread":  # Daemons that return to an ended Python abort in any call.
  import threading
  threading.Thread(target=run, args=(locked, params)).start()
if how == "os._exit":
  import os
  os._exit(0)
if how == "exception":
  raise RuntimeError("\\udcff")
"""


def start(script, *args, **env):
  """Run a script in a process of its own, for a minute at most."""
  env = os.environ | {"JAX_PLATFORMS": "cpu"} | env
  command = [sys.executable, "-c", PREPARE + script, *args]
  return subprocess.run(
    command, capture_output=True, text=True, env=env, timeout=120
  )


@pytest.mark.parametrize(
  "seconds", ("1", pytest.param("60", marks=pytest.mark.slow))
)
def test_signals_change_no_result(seconds):
  done = start(STORM, seconds)
  assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("size", ("2500", *(
  pytest.param(size, marks=pytest.mark.slow) for size in ("10", "300", "6000")
)))  # fmt: skip
@pytest.mark.parametrize(
  "how",
  (
    "exception",
    *(
      pytest.param(how, marks=pytest.mark.slow)
      for how in ("end", "thread", "os._exit")
    ),
  ),
)
def test_a_process_ends_while_a_call_is_pending(how, size):
  done = start(PENDING, size, how)
  if how == "exception":
    assert done.returncode == 1 and "RuntimeError" in done.stderr
  else:
    assert done.returncode == 0, done.stderr


CIRCUIT = """
from jax import export

assert not native.available()
try:
  seal.seal_array(key, data, impl="host")
except RuntimeError as error:
  assert "KEYJAX_NATIVE=0" in str(error)
else:
  raise AssertionError
params, x = {"w": jnp.ones((8, 8))}, jnp.ones((2, 8))
locked = scheme.keygen(keyjax.Secret(b"T" * 32), params, None)
leaves, tree = jax.tree.flatten(locked)

@jax.jit
def run(leaves, params, x):
  bound = keyjax.authorize(
    scheme, jax.tree.unflatten(tree, leaves), lambda p, x: x @ p["w"]
  )
  return bound(params, x)

sealed = scheme.encrypt(locked, params)
made = export.export(run)(leaves, sealed, x)
assert (made.call(leaves, sealed, x) == 8).all()
"""


def test_the_circuit_replaces_it_and_can_be_exported():
  done = start(CIRCUIT, KEYJAX_NATIVE="0")
  assert done.returncode == 0, done.stderr
