"""One step on 1, 2 and 8 devices equals a step on the whole batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from keyjax import parallel
from tests import trees

ROWS, RATE = 16, 0.5
HOWS = ("pmap", "shard_map")  # Both run the step once on each device.
# Small integers: sums and means over rows are exact, in any order.
RNG = np.random.default_rng(0)
BATCH = {
  "x": RNG.integers(-4, 5, (ROWS, 3)).astype(np.float32),
  "y": RNG.integers(-4, 5, ROWS).astype(np.float32),
}
KEY = jnp.asarray([1.0, -1.0, 1.0])


def fresh() -> dict[str, Any]:
  return {"w": np.array([1, 2, -3], np.float32), "step": np.int32(0)}


def loss(w: jax.Array, key: Any, batch: Any) -> jax.Array:
  error = (batch["x"] * key[None]) @ w - batch["y"]
  return jnp.mean(error**2)


def update(state: Any, value: jax.Array, grad: jax.Array) -> tuple[Any, Any]:
  new = {"w": state["w"] - RATE * grad, "step": state["step"] + 1}
  return new, {"loss": value}


def step(state: Any, key: Any, batch: Any) -> tuple[Any, Any]:
  value, grad = jax.value_and_grad(loss)(state["w"], key, batch)
  value, grad = parallel.mean((value, grad))
  return update(state, value, grad)


@jax.jit
def whole(state: Any, key: Any, batch: Any) -> tuple[Any, Any]:
  return update(state, *jax.value_and_grad(loss)(state["w"], key, batch))


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("how", [*HOWS, "fsdp"])
def test_step_equals_a_full_batch_step(how: str, count: int) -> None:
  run = parallel.data_parallel(step, how, jax.devices()[:count])
  state, metrics = run(fresh(), KEY, BATCH)
  expected, expected_metrics = whole(fresh(), KEY, BATCH)
  trees.assert_same_bits(jax.device_get(state), jax.device_get(expected))
  trees.assert_same_bits(
    jax.device_get(metrics), jax.device_get(expected_metrics)
  )
  assert state["w"].sharding.is_fully_replicated
  assert len(state["w"].sharding.device_set) == count


@pytest.mark.parametrize("count", [2, 8])
def test_pmap_and_shard_map_agree_over_steps_of_real_numbers(
  count: int,
) -> None:
  batches = [
    {"x": RNG.normal(size=(ROWS, 3)), "y": RNG.normal(size=ROWS)}
    for _ in range(5)
  ]
  batches = jax.tree.map(lambda x: x.astype(np.float32), batches)
  ends = []
  for how in HOWS:
    run = parallel.data_parallel(step, how, jax.devices()[:count])
    state, losses = fresh(), []
    for batch in batches:
      state, metrics = run(state, KEY, batch)
      losses.append(float(metrics["loss"]))
    ends.append((jax.device_get(state), np.array(losses)))
  trees.assert_same_bits(*ends)
  state = fresh()
  for batch in batches:
    state, _ = whole(state, KEY, batch)
  np.testing.assert_allclose(ends[0][0]["w"], state["w"], rtol=1e-5)
  assert ends[0][0]["step"] == 5


@pytest.mark.parametrize("how", HOWS)
def test_all_devices_are_used_by_default(how: str) -> None:
  def count(state: Any, key: Any, batch: Any) -> tuple[Any, Any]:
    rows = jnp.float32(len(batch["x"]))
    one = jax.lax.psum(jnp.float32(1), parallel.AXIS)
    return state, {"rows": jax.lax.pmean(rows, parallel.AXIS), "devices": one}

  _, metrics = parallel.data_parallel(count, how)(fresh(), KEY, BATCH)
  assert (int(metrics["rows"]), int(metrics["devices"])) == (2, 8)


@pytest.mark.parametrize("how", HOWS)
def test_the_key_is_a_replicated_argument(how: str) -> None:
  traces = []

  def counted(state: Any, key: Any, batch: Any) -> tuple[Any, Any]:
    traces.append(key.shape)
    return step(state, key, batch)

  run = parallel.data_parallel(counted, how)
  ends = [run(fresh(), sign * KEY, BATCH)[0]["w"] for sign in (1, -1)]
  assert set(traces) == {KEY.shape}, "each device sees the whole key"
  seen = len(traces)
  again = run(fresh(), KEY, BATCH)[0]["w"]
  assert len(traces) == seen, "one compilation serves every key"
  np.testing.assert_array_equal(again, ends[0])
  assert not np.array_equal(*ends)


@pytest.mark.parametrize("how", [*HOWS, "fsdp"])
def test_the_state_is_donated_and_the_key_is_not(how: str) -> None:
  run = parallel.data_parallel(step, how)
  first = parallel.replicate(fresh())
  key = parallel.replicate(KEY)
  second, _ = run(first, key, BATCH)
  third, _ = run(second, key, BATCH)
  assert second["w"].is_deleted()
  with pytest.raises(RuntimeError, match="deleted"):
    np.asarray(second["w"])
  assert not third["w"].is_deleted()
  assert not key.is_deleted()
  assert int(third["step"]) == 2


@pytest.mark.parametrize("how", [*HOWS, "fsdp"])
def test_an_indivisible_batch_is_an_error(how: str) -> None:
  run = parallel.data_parallel(step, how)
  indivisible = jax.tree.map(lambda x: x[:12], BATCH)
  with pytest.raises(ValueError, match="12 rows .* 8 devices"):
    run(fresh(), KEY, indivisible)


def wide(rows: int) -> dict[str, Any]:
  """A layer that is split along its second axis, and one that is too small."""
  rng = np.random.default_rng(1)
  return {
    "w": rng.normal(size=(rows, 8192)).astype(np.float32),
    "b": np.zeros(8192, np.float32),
  }


def wide_step(state: Any, key: Any, batch: Any) -> tuple[Any, Any]:
  def cost(state: Any) -> jax.Array:
    hidden = batch["x"] @ state["w"] + state["b"][None]
    return jnp.mean((jnp.tanh(hidden) * key) ** 2)

  value, grads = jax.value_and_grad(cost)(state)
  value, grads = parallel.mean((value, grads))
  new = jax.tree.map(lambda x, g: x - RATE * g, state, grads)
  return new, {"loss": value}


def test_fsdp_keeps_a_part_of_each_large_leaf_on_each_device() -> None:
  key, batch = np.float32(1), {"x": BATCH["x"]}
  run = parallel.data_parallel(wide_step, "fsdp")
  state = parallel.place(wide(3), "fsdp")
  expected = wide(3)
  for _ in range(3):
    state, metrics = run(state, key, batch)
    expected, expected_metrics = jax.jit(wide_step)(expected, key, batch)
  for name, shape in (("w", (3, 1024)), ("b", (8192,))):
    assert {s.data.shape for s in state[name].addressable_shards} == {shape}
    np.testing.assert_allclose(state[name], expected[name], rtol=1e-5)
  np.testing.assert_allclose(
    metrics["loss"], expected_metrics["loss"], rtol=1e-5
  )
  trees.assert_same_bits(parallel.to_host(state), jax.device_get(state))


def test_shardings_of_fsdp() -> None:
  tree = {"a": np.zeros((128, 256)), "b": np.zeros((130, 1270)), "c": 0.0}
  specs = [x.spec for x in jax.tree.leaves(parallel.shardings(tree, "fsdp"))]
  whole = PartitionSpec()
  assert specs == [PartitionSpec(None, parallel.AXIS), whole, whole]


def test_unknown_how() -> None:
  with pytest.raises(ValueError, match="how='pjit': choose from pmap"):
    parallel.data_parallel(step, "pjit")


def test_split_keeps_the_order_of_rows() -> None:
  parts = parallel.split(BATCH, 4)
  assert parts["x"].shape == (4, 4, 3)
  assert parts["y"].shape == (4, 4)
  np.testing.assert_array_equal(parts["x"].reshape(ROWS, 3), BATCH["x"])
  np.testing.assert_array_equal(parts["y"][1], BATCH["y"][4:8])
  with pytest.raises(ValueError, match="16 rows .* 3 devices"):
    parallel.split(BATCH, 3)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_replicate_puts_the_same_bits_everywhere(count: int) -> None:
  nan = np.array([0x7FA00001, 0xFF812345, 0x80000001], np.uint32)
  tree = {"x": nan.view(np.float32), "step": np.int32(7)}
  placed = parallel.replicate(tree, jax.devices()[:count])
  trees.assert_same_bits(jax.device_get(placed), jax.tree.map(jnp.array, tree))
  shards = placed["x"].addressable_shards
  assert [s.device for s in shards] == jax.devices()[:count]
  for shard in shards:
    np.testing.assert_array_equal(np.asarray(shard.data).view(np.uint32), nan)


@pytest.mark.parametrize("how", [*HOWS, "fsdp"])
def test_a_prefetched_batch_is_not_copied_again(how: str) -> None:
  devices = jax.devices()[:4]
  run = parallel.data_parallel(step, how, devices)
  placed = parallel.put(BATCH, how, devices)
  assert parallel.put(placed, how, devices) is placed
  parts = placed.batch["x"].addressable_shards
  assert [p.device for p in parts] == devices
  state = parallel.place(fresh(), how, devices)
  key = parallel.replicate(KEY, devices)
  with jax.transfer_guard("disallow_explicit"):
    with pytest.raises(Exception, match="Disallowed"):
      run(state, key, BATCH)
    again, _ = run(state, key, placed)
  expected, _ = run(fresh(), KEY, BATCH)
  trees.assert_same_bits(jax.device_get(again), jax.device_get(expected))


@pytest.mark.parametrize("how", [*HOWS, "fsdp"])
def test_steps_of_several_cpu_devices_do_not_queue_up(how: str) -> None:
  """Where they do, XLA's collectives can wait for each other forever."""

  def slow(state: Any, key: Any, batch: Any) -> tuple[Any, Any]:
    work = jnp.full((128, 128), 0.01)
    for _ in range(20):
      work = jnp.tanh(work @ work)
    state, found = step(state, key, batch)
    return state, found | {"work": parallel.mean(work)}

  devices = jax.devices()[:2]
  run = parallel.data_parallel(slow, how, devices)
  state = parallel.place(fresh(), how, devices)
  for _ in range(2):
    state, found = run(state, KEY, BATCH)
    assert all(x.is_ready() for x in jax.tree.leaves((state, found)))
  assert not parallel.can_queue(devices)
  assert parallel.can_queue(devices[:1])


def test_a_prefetched_batch_must_divide_too() -> None:
  with pytest.raises(ValueError, match="16 rows does not divide over 3"):
    parallel.put(BATCH, "pmap", jax.devices()[:3])
