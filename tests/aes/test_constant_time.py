"""No address depends on a secret, as read from the compiled programs.

A taint analysis follows the secret parameters through every instruction of the
optimised HLO. A gather, a slice at a computed index, a sort or a branch fails
the test if its index or condition depends on a secret.
"""

import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax import aes, seal
from keyjax.aes import bitslice, ghash

LINE = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$")
NAME = re.compile(r"%([\w.\-]+)")
# For each operation, the first operand that is an index.
INDICES = {
  "gather": 1,
  "scatter": 1,
  "dynamic-slice": 1,
  "dynamic-update-slice": 2,
  "dynamic-gather": 1,
  "sort": 0,
}


def balanced(text, start):
  """Return the index of the parenthesis that closes the one at `start`."""
  depth = 0
  for i in range(start, len(text)):
    depth += {"(": 1, ")": -1}.get(text[i], 0)
    if depth == 0:
      return i
  raise AssertionError(text)


def parse_line(line) -> Iterator[tuple]:
  found = LINE.match(line)
  if not found:
    return
  root, name, rest = found.groups()
  after = balanced(rest, 0) + 1 if rest[0] == "(" else rest.index(" ")
  op = re.match(r"\s*([\w\-]+)\(", rest[after:])
  start = after + op.end() - 1
  end = balanced(rest, start)
  args, attributes = rest[start + 1 : end], rest[end + 1 :]
  yield bool(root), name, op.group(1), args, attributes


def parse(text):
  """Return {computation: instructions} and the name of the entry."""
  computations, entry, current = {}, None, None
  for line in text.splitlines():
    head = re.match(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
    if head:
      current = computations.setdefault(head.group(2), [])
      entry = head.group(2) if head.group(1) else entry
    elif current is not None:
      current.extend(parse_line(line))
  return computations, entry


def any_of(taint):
  return any(map(any_of, taint)) if isinstance(taint, list) else taint


def union(a, b):
  if isinstance(a, list):
    other = b if isinstance(b, list) else [b] * len(a)
    return [union(x, y) for x, y in zip(a, other, strict=True)]
  return a or any_of(b)


class Follower:
  """Taint analysis of a module; `found` are operations indexed by secrets."""

  def __init__(self, text):
    self.computations, self.entry = parse(text)
    self.found, self.seen = set(), set()

  def called(self, name, attributes):
    return re.search(rf"{name}=%?([\w.\-]+)", attributes).group(1)

  def run(self, name, params):
    values = {}
    for root, out, op, args, attributes in self.computations[name]:
      self.seen.add(op)
      operands = [values[x] for x in NAME.findall(args)]
      values[out] = self.step(op, args, attributes, operands, params)
      if op in INDICES and any(map(any_of, operands[INDICES[op] :])):
        self.found.add(op)
      if root:
        result = values[out]
    return result

  def step(self, op, args, attributes, operands, params):
    if op == "parameter":
      return params[int(args)]
    if op == "tuple":
      return operands
    if op == "get-tuple-element" and isinstance(operands[0], list):
      return operands[0][int(re.search(r"index=(\d+)", attributes).group(1))]
    if op == "while":
      return self.loop(attributes, operands[0])
    if op in ("fusion", "call"):
      key = "calls" if "calls=" in attributes else "to_apply"
      return self.run(self.called(key, attributes), operands)
    if op == "conditional":
      self.found.update({"branch"} if any_of(operands[0]) else ())
    if op == "custom-call":
      self.found.add(re.search(r'target="([^"]*)"', attributes).group(1))
    return any(map(any_of, operands))

  def loop(self, attributes, state):
    body = self.called("body", attributes)
    for _ in range(50):
      after = union(state, self.run(body, [state]))
      if after == state:
        break
      state = after
    else:
      raise AssertionError("the taint of a loop did not settle")
    if any_of(self.run(self.called("condition", attributes), [state])):
      self.found.add("branch")
    return state


def addressed_by_secrets(fn, *args, public=()):
  """Return the operations of compiled `fn` with a secret index."""
  text = jax.jit(fn).lower(*args).compile().as_text()
  follower = Follower(text)
  secret = [i not in public for i in range(len(jax.tree.leaves(args)))]
  follower.run(follower.entry, secret)
  assert "xor" in follower.seen or "and" in follower.seen
  return follower.found


KEYS = jax.ShapeDtypeStruct((11, 4), jnp.uint32)
COUNTER = jax.ShapeDtypeStruct((4,), jnp.uint32)
BLOCKS = jax.ShapeDtypeStruct((3, 4), jnp.uint32)


def u8(n):
  return jax.ShapeDtypeStruct((n,), jnp.uint8)


@pytest.mark.parametrize(
  ("name", "fn", "args"),
  (
    ("expand", aes.expand_key, (u8(32),)),
    (
      "keystream",
      lambda k, c: aes.keystream(k, c, 40_000, impl="device"),
      (KEYS, COUNTER),
    ),
    (
      "decrypt",
      lambda k, b: aes.decrypt_blocks(k, b, impl="device"),
      (KEYS, BLOCKS),
    ),
    (
      "gcm",
      lambda *x: aes.gcm_open(*x, impl="device"),
      (KEYS, u8(12), u8(20), u8(16), u8(5)),
    ),
    (
      "chunks",
      lambda k, n, x, h: seal.seal_array(
        seal.SealKey(round_keys=k, base_nonce=n, header=h), x, impl="device"
      ),
      (KEYS, u8(12), u8(40_000), u8(56)),
    ),
    (
      "derive",
      lambda k, c: aes.derive(k, "label", 40, c, impl="device"),
      (KEYS, u8(16)),
    ),
    (
      "ghash",
      lambda h, b: ghash.ghash(ghash.tables(h, 70), b),
      (COUNTER, jax.ShapeDtypeStruct((2, 70, 4), jnp.uint32)),
    ),
  ),
)
def test_no_index_depends_on_a_secret(name, fn, args):
  assert addressed_by_secrets(fn, *args) == set(), name


def test_no_index_depends_on_a_secret_in_the_form_for_accelerators():
  # Compiled for the CPU: the analysis concerns the program, not the target.
  masks = jax.ShapeDtypeStruct((11, 8, 16, 1), jnp.uint32)
  state = (jax.ShapeDtypeStruct((16, 1), jnp.uint32),) * 8
  assert (
    addressed_by_secrets(bitslice.accelerator_rounds, masks, state) == set()
  )


@pytest.mark.parametrize(
  ("fn", "want"),
  (
    (lambda t, i: t[i], {"gather", "dynamic-slice"}),
    (lambda t, i: t.at[i].set(0), {"scatter", "dynamic-update-slice"}),
    (lambda t, i: jnp.sort(t), {"sort"}),
    (lambda t, i: jax.lax.cond(i > 3, jnp.sin, jnp.cos, t), {"branch"}),
    (lambda t, i: jax.lax.while_loop(
      lambda x: x[1] > 0, lambda x: (x[0] ^ 1, x[1] - 1), (t, i)), {"branch"}),
  ),
)  # fmt: skip
def test_the_analysis_finds_secret_indices(fn, want):
  table = jnp.arange(256, dtype=jnp.int32)
  if "cond" in fn.__code__.co_names:
    table = table.astype(jnp.float32)
  body = lambda t, i: (fn(t, i), t ^ 1 if t.dtype == jnp.int32 else t)  # noqa: E731
  text = jax.jit(body).lower(table, np.int32(3)).compile().as_text()
  follower = Follower(text)
  follower.run(follower.entry, [True, True])
  assert follower.found & want


def test_public_indices_pass():
  def fn(table, i):
    return jax.lax.dynamic_slice(table, (i,), (1,)) ^ 1

  table = jnp.arange(256, dtype=jnp.int32)
  assert addressed_by_secrets(fn, table, np.int32(3), public=(1,)) == set()
  assert addressed_by_secrets(fn, table, np.int32(3)) != set()
