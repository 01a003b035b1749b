"""The first hour: wrong arguments are named in one line, with what to do."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import keyjax
from keyjax import Secret, arguments, checkpoint, keys, laws

SECRET = Secret(b"T" * 32)
X = np.ones((2, 4), np.float32)
BATCH = {"image": X}
IMAGES = np.ones((2, 2, 2, 1), np.float32)


class Net(nn.Module):
  @nn.compact
  def __call__(self, x: Any) -> Any:
    return nn.Dense(2, name="out")(nn.relu(nn.Dense(3, name="hidden")(x)))


class Other(nnx.Module):
  def __init__(self) -> None:
    self.w = nnx.Param(jnp.ones((4, 2)))

  def __call__(self, x: Any) -> Any:
    return x @ self.w


class Model:
  """A model that is a pytree and holds its weights, as in Equinox."""

  def __call__(self, x: Any) -> Any:
    return x


NET = Net()
PARAMS = {
  "params": {
    name: {"kernel": jnp.ones(shape), "bias": jnp.zeros(shape[1])}
    for name, shape in {"hidden": (4, 3), "out": (3, 2)}.items()
  }
}
LOCK = keyjax.deep_lock()
KEY = LOCK.keygen(SECRET, PARAMS, None)
MODEL: Any = Other()


def loss_fn(params: Any, batch: Any) -> Any:
  return NET.apply(params, batch["image"]).mean()


PIXELS = keyjax.pixel_shuffle("shf", 2)
PIXEL_KEY = PIXELS.keygen(SECRET, None, {"image": IMAGES})

Case = tuple[Callable[[], Any], type[Exception], str]


def hpnn(
  apply_fn: Any = NET.apply, params: Any = PARAMS, batch: Any = BATCH
) -> Any:
  return keyjax.hpnn(apply_fn).keygen(SECRET, params, batch)


def adv_params(loss: Any, batch: Any = BATCH, **options: Any) -> Any:
  return keyjax.adv_params(loss, **options).keygen(SECRET, PARAMS, batch)


CASES: dict[str, Case] = {
  # Combinators.
  "chain list": (
    lambda: keyjax.chain([LOCK, LOCK]),
    TypeError,
    "chain: a list is not a scheme: .* chain\\(a, b\\), or chain\\(\\*schemes",
  ),
  "chain factory": (
    lambda: keyjax.chain(keyjax.deep_lock),
    TypeError,
    "the function deep_lock is not a scheme: call it, deep_lock",
  ),
  "chain key": (lambda: keyjax.chain(KEY), TypeError, "a ChainKey is not a"),
  "chain name": (lambda: keyjax.chain("hpnn"), TypeError, "a str is not a"),
  "chain key of a part": (
    lambda: keyjax.chain(LOCK, LOCK).encrypt(KEY, PARAMS),
    TypeError,
    "needs 2 keys in a tuple, got ChainKey",
  ),
  "masked swapped": (
    lambda: keyjax.masked(".*kernel", LOCK),
    TypeError,
    "masked: a str is not a scheme",
  ),
  "masked list": (
    lambda: keyjax.masked(LOCK, [".*kernel"]),
    TypeError,
    "pattern of leaf paths is a regular expression.* got a list",
  ),
  "masked tree": (
    lambda: keyjax.masked(LOCK, jax.tree.map(bool, {"a": 1})),
    TypeError,
    "regular expression.* got a dict of a",
  ),
  "partition list": (
    lambda: keyjax.partition([(".*", LOCK)]),
    TypeError,
    "takes a dict of a scheme for each pattern, got a list",
  ),
  "partition factory": (
    lambda: keyjax.partition({".*": keyjax.deep_lock}),
    TypeError,
    "partition: the function deep_lock is not a scheme: call it",
  ),
  "authorize swapped": (
    lambda: keyjax.authorize(KEY, LOCK, NET.apply),
    TypeError,
    "authorize: a ChainKey is not a scheme",
  ),
  "authorize module": (
    lambda: keyjax.authorize(LOCK, KEY, NET),
    TypeError,
    "last argument is the module Net, not a function: pass its `apply`",
  ),
  "laws swapped": (
    lambda: laws.check(PARAMS, LOCK),
    TypeError,
    "laws.check: a dict of params is not a scheme",
  ),
  # HPNN.
  "hpnn module": (
    lambda: hpnn(NET),
    TypeError,
    "apply_fn is the module Net, not a function: pass its `apply`",
  ),
  "hpnn class": (
    lambda: hpnn(Net),
    TypeError,
    "apply_fn is the class Net, not a function: pass .* such as model.apply",
  ),
  "hpnn state": (
    lambda: hpnn(
      TrainState.create(apply_fn=NET.apply, params={}, tx=optax.sgd(1.0))
    ),
    TypeError,
    "apply_fn is a TrainState, .* pass its `apply_fn`",
  ),
  "hpnn nnx": (
    lambda: hpnn(MODEL),
    TypeError,
    "hpnn locks flax models: apply_fn is the module Other.*nnx_apply",
  ),
  "hpnn function": (
    lambda: hpnn(lambda p, x: x @ p["params"]["hidden"]["kernel"]),
    ValueError,
    "calls no layer .* use a scheme that locks weights",
  ),
  "hpnn nnx function": (
    lambda: hpnn(
      lambda p, x: nnx.merge(nnx.graphdef(MODEL), p)(x), nnx.state(MODEL)
    ),
    ValueError,
    "calls no layer .*keyjax.nnx_apply",
  ),
  "hpnn callable": (
    lambda: hpnn(Model()),
    ValueError,
    "apply_fn\\(params, x\\) fails .*takes 2 positional arguments",
  ),
  "hpnn batch": (
    lambda: hpnn(batch=X),
    ValueError,
    "looks at the input of the model, and the batch is float32\\[2, 4\\]: "
    'give a batch such as {"image": x}',
  ),
  "hpnn other batch": (
    lambda: hpnn(batch={"x": X}),
    ValueError,
    "the batch is a dict of x: give a batch",
  ),
  "hpnn list": (
    lambda: hpnn(batch={"image": X.tolist()}),
    ValueError,
    "has a list there, not an array",
  ),
  "hpnn not flattened": (
    lambda: hpnn(batch={"image": IMAGES}),
    ValueError,
    "fails for a batch of float32\\[2, 2, 2, 1\\]: give keygen the params and "
    "the batch that the model takes.*kernel",
  ),
  "hpnn collection": (
    lambda: hpnn(params=PARAMS["params"]),
    ValueError,
    'with the collection "params" as model.init returns',
  ),
  "hpnn layers": (
    lambda: keyjax.hpnn(NET.apply, ["hidden"]),  # type: ignore[arg-type]
    TypeError,
    "hpnn: layers is one regular expression .*'a|b', got a list",
  ),
  "hpnn params": (
    lambda: keyjax.hpnn(NET.apply, PARAMS),  # type: ignore[arg-type]
    TypeError,
    "hpnn: layers is .* got a dict of params",
  ),
  "hpnn units": (
    lambda: keyjax.hpnn(NET.apply, units="256"),  # type: ignore[arg-type]
    ValueError,
    "units='256': a whole number, at least 1",
  ),
  "hpnn image": (
    lambda: keyjax.hpnn(NET.apply, image="x").keygen(SECRET, PARAMS, BATCH),  # type: ignore[arg-type]
    TypeError,
    "hpnn: image is a str, not a function: pass a function such as lambda",
  ),
  "absorb swapped": (
    lambda: keyjax.absorb(PARAMS, KEY),
    TypeError,
    "needs a HpnnKey, got a dict of params: the key is the first argument",
  ),
  # AdvParams.
  "adv module": (
    lambda: adv_params(NET),
    TypeError,
    "loss_fn is the module Net, not a function: pass a function loss_fn",
  ),
  "adv batch": (
    lambda: adv_params(loss_fn, X),
    ValueError,
    "loss_fn\\(params, batch\\) fails for a batch of float32\\[2, 4\\]",
  ),
  "adv logits": (
    lambda: adv_params(lambda p, b: NET.apply(p, b["image"])),
    ValueError,
    "returns float32\\[2, 2\\], not one float: return the mean loss",
  ),
  "adv aux": (
    lambda: adv_params(lambda p, b: (loss_fn(p, b), {})),
    ValueError,
    "returns a tuple, not one float",
  ),
  "adv hidden": (
    lambda: keyjax.masked(keyjax.adv_params(loss_fn), ".*bias").keygen(
      SECRET, PARAMS, BATCH
    ),
    ValueError,
    "no leaf of floats matches .* `masked` hides those that match",
  ),
  # Pixels.
  "pixels batch": (
    lambda: PIXELS.keygen(SECRET, None, IMAGES),
    ValueError,
    "looks at images, and the batch is float32\\[2, 2, 2, 1\\]: give a batch",
  ),
  "pixels flat": (
    lambda: PIXELS.keygen(SECRET, None, BATCH),
    ValueError,
    "images are \\[..., H, W, C\\], got \\[2, 4\\]",
  ),
  "pixels dict": (
    lambda: PIXELS.bind(PIXEL_KEY, NET.apply)(PARAMS, {"image": IMAGES}),
    TypeError,
    "images are an array, got a dict of image",
  ),
  "pixels swapped": (
    lambda: PIXELS.encrypt(PARAMS, PIXEL_KEY),
    TypeError,
    "take the params last, got a ShfKey",
  ),
  "pixels bind": (
    lambda: PIXELS.bind(NET.apply, PIXEL_KEY),  # type: ignore[arg-type]
    TypeError,
    "needs a ShfKey, got the function apply: the key is the first",
  ),
  # Ciphers.
  "swapped": (
    lambda: LOCK.encrypt(PARAMS, KEY),
    TypeError,
    "needs a ChainKey, got a dict of params: the key is the first argument",
  ),
  "secret as key": (
    lambda: LOCK.encrypt(SECRET, PARAMS),
    TypeError,
    "got a Secret: keygen\\(secret, params, batch\\) makes the key",
  ),
  "key of another scheme": (
    lambda: LOCK.encrypt(PIXEL_KEY, PARAMS),
    TypeError,
    "needs a ChainKey, got a ShfKey: this key belongs to another scheme",
  ),
  "key of a chain": (
    lambda: LOCK.encrypt((KEY, KEY), PARAMS),
    TypeError,
    "these keys belong to a chain",
  ),
  "keygen swapped": (
    lambda: LOCK.keygen(PARAMS, SECRET, None),  # type: ignore[arg-type]
    TypeError,
    "keygen takes a keyjax.Secret, got a dict of params",
  ),
  "keygen rng": (
    lambda: LOCK.keygen(jax.random.key(0), PARAMS, None),  # type: ignore[arg-type]
    TypeError,
    "keygen takes a keyjax.Secret, got a JAX PRNG key",
  ),
  "keygen module": (
    lambda: LOCK.keygen(SECRET, NET, None),
    ValueError,
    "params is of type Net, not a tree of arrays; give what model.init",
  ),
  "keygen numbers": (
    lambda: LOCK.keygen(SECRET, {"a": [1.0, 2.0]}, None),
    ValueError,
    "no array of floats or int8 among 2 leaves .a/0: float",
  ),
  "nonce": (
    lambda: keyjax.deep_lock("counter", nonce="twelve bytes"),  # type: ignore[arg-type]
    TypeError,
    "a nonce is 12 bytes, got a str",
  ),
  # Secrets and keys.
  "secret of text": (
    lambda: Secret("ab" * 32),  # type: ignore[arg-type]
    TypeError,
    "made of bytes, got a str: Secret.generate.. makes one, .*bytes.fromhex",
  ),
  "label": (
    lambda: SECRET.child(3),  # type: ignore[arg-type]
    TypeError,
    "a label is text, got an int",
  ),
  "saved secret": (
    lambda: keys.save("/nonexistent/key", SECRET),
    TypeError,
    "keys.save takes a key .* got a Secret; Secret.save writes",
  ),
  "saved scheme": (
    lambda: keys.save("/nonexistent/key", None),
    TypeError,
    "keys.save takes a key as keygen returns it, got None",
  ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_wrong_arguments(case: Case) -> None:
  call, error, message = case
  with pytest.raises(error, match=message) as found:
    call()
  assert len(str(found.value).splitlines()) == 1


WRONG = {
  "params": PARAMS,
  "key": KEY,
  "secret": SECRET,
  "bytes": b"T" * 32,
  "digits": "54" * 32,
  "module": NET,
  "scheme": LOCK,
  "none": None,
  "number": 3,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize(
  "factory",
  [
    "deep_lock",
    "keyed_noise",
    "licensee_mark",
    "pixel_shuffle",
    "hpnn",
    "adv_params",
  ],
)
def test_factories_do_not_take_it(factory: str, wrong: Any) -> None:
  if factory in ("keyed_noise", "licensee_mark") and isinstance(wrong, str):
    pytest.skip("a text is a pattern")
  with pytest.raises((TypeError, ValueError)) as found:
    getattr(keyjax, factory)(wrong)
  (message,) = str(found.value).splitlines()
  name = {"deep_lock": "schedule", "pixel_shuffle": "kind"}.get(
    factory, factory
  )
  assert message.startswith(name) and len(message) < 200
  assert "T" * 8 not in message and "54" * 8 not in message  # No key.


def test_names_that_may_be_keys_are_not_shown() -> None:
  pasted = "ab" * 16
  assert arguments.describe({pasted: 1, "w": 2}) == "a dict of a long name, w"
  with pytest.raises(ValueError) as caught:
    checkpoint.save("nowhere", {"w": X}, [], run=f"{pasted} ")
  assert pasted not in str(caught.value)
