"""Encrypted inference: right in every slot; the server sees ciphertexts."""

import dataclasses
import itertools
import secrets
import threading
from collections.abc import Sequence
from multiprocessing.connection import Listener

import numpy as np
import pytest

from keyjax.defenses.homomorphic import ckks, connection, library, network
from keyjax.defenses.homomorphic.connection import Conversation, Remote
from keyjax.defenses.homomorphic.parameters import Parameters
from keyjax.errors import ArgumentError, ContentError, StorageError
from tests.defenses.homomorphic.test_network import evaluated, params

ts = pytest.importorskip("tenseal", reason="pip install 'keyjax[homomorphic]'")


@dataclasses.dataclass
class World:
  """A client and a server that have met."""

  client: ckks.Client
  server: ckks.Server
  public: bytes
  session: ckks.Session


@pytest.fixture(scope="module")
def world() -> World:
  server = ckks.Server(params(6, 3, 2), (0.5, -1.0, 2.0), low=-1.0)
  client = ckks.Client(server.facts)
  public = client.public()
  return World(client, server, public, server.open(public))


def plain(world: World, x: np.ndarray) -> np.ndarray:
  return evaluated(world.server.layers, x)


def session_of(world: World, layers: Sequence[network.Layer]) -> ckks.Session:
  """Return a session of other layers, with the same client."""
  given = world.session
  return ckks.Session(
    layers,
    world.server.facts.repeats,
    given._chain,
    given._context,
    given._keys,
  )


X = np.linspace(-1, 1, 6)


def test_answers_are_the_plain_networks_in_every_slot(world: World) -> None:
  """A bias in the first slots only is wrong elsewhere, by the bias."""
  answer = world.session.answer(world.client.encrypt(X))
  slots = world.client.slots(answer)
  assert slots.shape == (4096,)
  want = plain(world, X)
  np.testing.assert_allclose(slots, np.tile(want, 2048), atol=2e-3)
  assert world.client.decrypt(answer).tolist() == slots[:2].tolist()


def test_a_bias_added_to_the_first_slots_alone_is_wrong(world: World) -> None:
  """What TenSEAL's vectors do: the check above would find it."""
  session = session_of(world, world.server.layers)
  tiled = session._plain

  def once(vector: np.ndarray, x, scale: float):
    if vector.shape == (3,):  # The hidden layer's bias.
      vector = np.pad(vector, (0, session._chain.slots - 3))
    return tiled(vector, x, scale)

  session._plain = once  # type: ignore[method-assign]
  slots = world.client.slots(session.answer(world.client.encrypt(X)))
  assert np.abs(slots - np.tile(plain(world, X), 2048)).max() > 0.1


def test_the_server_has_no_secret_key(world: World) -> None:
  context = world.session._context
  assert not context.is_private()
  with pytest.raises(ValueError, match="Secret key"):
    context.secret_key()
  secret = library.to_bytes(world.client._context.secret_key().data)
  whole = world.client._context.serialize(save_secret_key=True)
  assert secret[16:] in whole and secret[16:] not in world.public


def test_the_same_input_is_never_the_same_question(world: World) -> None:
  first, second = world.client.encrypt(X), world.client.encrypt(X)
  assert first[100:] != second[100:]
  assert np.float64(X).tobytes() not in first


def test_a_context_with_the_secret_key_is_refused(world: World) -> None:
  whole = world.client._context.serialize(
    save_secret_key=True, save_galois_keys=False
  )
  sent = len(whole).to_bytes(8, "big") + whole
  with pytest.raises(ContentError, match="contains the secret key") as e:
    world.server.open(sent)
  assert "\n" not in str(e.value)


@pytest.mark.parametrize("data", [b"", b"x" * 9, secrets.token_bytes(500)])
def test_garbage_is_refused_in_one_line(world: World, data: bytes) -> None:
  for what, call in {
    "not a context": world.server.open,
    "not a question": world.session.answer,
    "not an answer": world.client.decrypt,
  }.items():
    with pytest.raises(ContentError, match=what) as e:
      call(data)
    assert "\n" not in str(e.value)


def test_keys_of_another_kind_are_refused(world: World) -> None:
  size = int.from_bytes(world.public[:8], "big") + 8
  with pytest.raises(ContentError, match="not keys for rotations"):
    world.server.open(world.public[:size] + world.client.encrypt(X))
  with pytest.raises(ContentError, match="not a context"):
    world.server.open(world.public[:1000])
  question = world.client.encrypt(X)
  answer = world.session.answer(question)
  with pytest.raises(ContentError, match="not fresh"):
    world.session.answer(answer)
  with pytest.raises(ContentError, match="not a question"):
    world.session.answer(question[:-1])


def test_a_chain_that_is_too_short_is_found_before_anything_runs() -> None:
  short = Parameters(8192, (60, 40, 40, 60), 40)
  deep = ckks.Server(params(3, 3, 3))
  with pytest.raises(ArgumentError, match="needs 3 levels") as e:
    ckks.Client(deep.facts, short)
  assert "\n" not in str(e.value)
  # A client that does not check: the server does.
  linear = ckks.Client(ckks.Server(params(3, 3)).facts, short)
  with pytest.raises(ContentError, match="needs 3 levels"):
    deep.open(linear.public())


def test_values_that_would_wrap_around_are_refused() -> None:
  large = {"d_0": {"kernel": np.full((2, 1), 2.0**19), "bias": np.zeros(1)}}
  with pytest.raises(ArgumentError, match="wrap around"):
    ckks.Client(ckks.Server(large).facts)


@pytest.mark.parametrize(
  ("x", "words"),
  [
    (np.zeros(5), r"\(6,\) expected"),
    (np.full(6, 1.01), "takes -1 to 1"),
    (np.full(6, np.nan), "takes -1 to 1"),
    (X + 0.5j, "inputs are complex128.6.: pass real numbers"),
    (["a"] * 6, "pass real numbers"),
    (None, "inputs are object"),
  ],
)
def test_other_inputs_are_refused(world: World, x, words: str) -> None:
  with pytest.raises(ArgumentError, match=words):
    world.client.encrypt(x)


def test_what_is_no_message_is_refused(world: World) -> None:
  for call, what in (
    (world.server.open, "a client's public part"),
    (world.session.answer, "a question"),
    (world.client.decrypt, "an answer"),
  ):
    for data in (None, "a", 5):
      with pytest.raises(TypeError, match=f"{what} is .*: pass the bytes of"):
        call(data)


def test_a_question_is_no_answer(world: World) -> None:
  with pytest.raises(ContentError, match="not an answer: a question"):
    world.client.decrypt(world.client.encrypt(X))


@pytest.mark.parametrize(
  ("low", "high", "words"),
  [
    (-np.inf, 1.0, "low=-inf: a finite number"),
    (0.0, np.nan, "high=nan: a finite number"),
    ("0", 1.0, "low='0': a finite number"),
    (1.0, 1.0, "low is below high"),
  ],
)
def test_bounds_of_inputs_are_finite(low, high, words: str) -> None:
  with pytest.raises(ArgumentError, match=words):
    ckks.Server(params(2, 1), low=low, high=high)


def test_fields_without_their_names_are_no_facts(world: World) -> None:
  facts = world.server.facts
  with pytest.raises(TypeError, match="facts are a tuple: pass Server.facts"):
    ckks.Client(tuple(facts))  # type: ignore[arg-type]
  for chain in ((8192, (50, 30, 30, 30, 60), 30), ()):
    with pytest.raises(TypeError, match="parameters are a tuple"):
      ckks.Client(facts, chain)  # type: ignore[arg-type]


def test_weights_of_zero_are_refused_or_skipped(world: World) -> None:
  first, question = world.server.layers[0], world.client.encrypt(X)
  kernel, bias = np.zeros((3, 2)), np.ones(2)
  empty = session_of(world, [first, network.Layer(kernel, bias)])
  with pytest.raises(ContentError, match="all weights of layer 1 are 0"):
    empty.answer(question)
  kernel[0, 0] = 1.0  # Of two diagonals, one is still 0.
  layers = [first, network.Layer(kernel, bias)]
  found = world.client.decrypt(session_of(world, layers).answer(question))
  np.testing.assert_allclose(found, evaluated(layers, X), atol=2e-3)


def test_a_quadratic_network_is_known_after_few_answers() -> None:
  """Why encryption does not keep a model secret: see docs/homomorphic.md."""
  layers = network.squared(params(3, 4, 2))
  rng = np.random.default_rng(0)

  def monomials(x: np.ndarray) -> np.ndarray:
    x = np.column_stack([np.ones(len(x)), x])
    pairs = itertools.combinations_with_replacement(range(4), 2)
    return np.column_stack([x[:, i] * x[:, j] for i, j in pairs])

  asked = rng.uniform(size=(4 * 5 // 2, 3))  # (n + 1)(n + 2) / 2 questions.
  copy = np.linalg.solve(monomials(asked), evaluated(layers, asked))
  others = rng.uniform(size=(50, 3))
  found = monomials(others) @ copy
  np.testing.assert_allclose(found, evaluated(layers, others), atol=1e-8)


def test_a_conversation_answers_and_refuses(world: World) -> None:
  talk = Conversation(world.server)
  remote = Remote(talk.reply)
  assert remote.facts() == world.server.facts
  question = world.client.encrypt(X)
  for refused, words in (
    (lambda: remote.answer(question), "before the client's keys"),
    (lambda: remote.open(b"x"), "not a context"),
  ):
    with pytest.raises(ContentError, match=f"the server refuses.*{words}"):
      refused()
  assert talk.reply(b"?").startswith(b"E") and talk.reply(b"")[:1] == b"E"
  talk._session = world.session
  found = world.client.decrypt(remote.answer(question))
  np.testing.assert_allclose(found, plain(world, X), atol=2e-3)
  cost = remote.cost()
  assert cost["answers"] == 1 and cost["seconds"] > 0


@pytest.mark.parametrize(
  "reply", [b"", b"Q", b"F", b"F{}", b"F[1]", b'F{"inputs": "many"}']
)
def test_replies_that_are_none_are_refused(reply: bytes) -> None:
  with pytest.raises(ContentError, match="^not "):
    Remote(lambda message: reply).facts()
  with pytest.raises(ContentError, match="^not a reply"):
    Remote(lambda message: reply.replace(b"F", b"C")).cost()


def test_a_server_turns_strangers_away_and_outlives_garbage(tmp_path) -> None:
  server = ckks.Server(params(2, 1))
  address, key = str(tmp_path / "s"), b"key"
  with Listener(address, "AF_UNIX", authkey=key) as listener:
    thread = threading.Thread(
      target=connection.serve, args=(server, listener, 2), daemon=True
    )
    thread.start()
    with pytest.raises(ContentError, match="another authkey"):
      with connection.remote(address, b"other"):
        pass
    with connection.remote(address, key) as remote:
      with pytest.raises(ContentError, match="not a message"):
        remote._checked(b"?")
      assert remote.facts() == server.facts
    with connection.remote(address, key) as remote:
      with pytest.raises(ContentError, match="not a context"):
        remote.open(secrets.token_bytes(100))
      assert remote.cost() == {"answers": 0, "seconds": 0}
    thread.join(10)
    assert not thread.is_alive()
  with pytest.raises(StorageError, match="no server at"):
    with connection.remote(address, key):
      pass


@pytest.mark.parametrize("address", [None, 5, ("localhost",), ("h", "port")])
def test_what_is_no_address_is_refused(address) -> None:
  with pytest.raises(ArgumentError, match="address=.*: pass that of the list"):
    with connection.remote(address, b"key"):
      pass


def test_a_connection_without_a_key_is_refused(tmp_path) -> None:
  with pytest.raises(TypeError, match="authkey is None: pass the listener's"):
    with connection.remote(str(tmp_path / "s"), None):  # type: ignore[arg-type]
      pass
