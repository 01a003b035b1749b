"""Inference on encrypted inputs with CKKS: the client's side and the server's.

    client                                server
    Client(facts)                         Server(params).facts
    client.public()               ->      session = server.open(...)
    client.encrypt(x)             ->      session.answer(...)
    client.decrypt(...)           <-

Only the client has the secret key. The server sees ciphertexts and evaluation
keys, and refuses a context with a secret key.

Guarantees:
  Inputs and outputs are hidden from a server that follows the protocol, as hard
  to learn as ring-LWE of the standard's 128-bit parameters.

Known breaks:
  Outputs of `decrypt` that the server learns tell about the secret key (Baiyu
  Li and Daniele Micciancio, "On the security of homomorphic encryption on
  approximate numbers", EUROCRYPT 2021): do not share them. Answers extract the
  model as any API's do; a quadratic network of n inputs is known after
  (n + 1)(n + 2) / 2 of them. Nothing proves that an answer was computed as
  agreed, or not changed on the way.

References:
  Jung Hee Cheon, Andrey Kim, Miran Kim and Yongsoo Song, "Homomorphic
  encryption for arithmetic of approximate numbers", ASIACRYPT 2017.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keyjax.arguments import describe
from keyjax.defenses.homomorphic import library, network, packing, parameters
from keyjax.defenses.homomorphic.checks import finite, reals, require_bytes
from keyjax.defenses.homomorphic.facts import Facts, check_size
from keyjax.defenses.homomorphic.parameters import Parameters
from keyjax.errors import ArgumentError, ContentError

_LENGTH = 8  # Bytes of the length before the context.


class Server:
  """A network that answers encrypted questions.

  Attributes:
    facts: What clients need to know.
    layers: Layers with x^2 between them.
  """

  def __init__(
    self,
    params: network.Params,
    activation: network.Quadratic = network.SQUARE,
    *,
    low: float = 0.0,
    high: float = 1.0,
  ):
    """Check a network.

    Args:
      params: Dense layers; see `network.apply`.
      activation: Coefficients of the quadratic between them.
      low: Smallest input that clients may ask.
      high: Largest one.

    Raises:
      ArgumentError: If the network cannot be evaluated on ciphertexts.
    """
    low, high = finite(low, "low"), finite(high, "high")
    if not low < high:
      raise ArgumentError(f"low={low}, high={high}: low is below high")
    self.layers = network.squared(params, activation)
    sizes = [len(x.kernel) for x in self.layers] + [self.layers[-1].bias.size]
    depth = network.levels(self.layers)
    # Where the slots of the smallest ring suffice, each input is repeated.
    inputs, units = (packing.period(n) for n in sizes[:2])
    fits = inputs * units <= parameters.for_levels(depth).slots
    repeats = units if fits else 1
    bound = network.largest(self.layers, low, high)
    self.facts = Facts(
      inputs=sizes[0],
      outputs=sizes[-1],
      repeats=repeats,
      width=max(packing.period(max(sizes)), inputs * repeats),
      levels=depth,
      low=low,
      high=high,
      largest=float(2 ** np.ceil(np.log2(max(bound, 1)))),
    )

  def open(self, public: bytes) -> "Session":
    """Take a client's evaluation keys.

    Args:
      public: From `Client.public`.

    Raises:
      TypeError: If they are not bytes.
      ContentError: If these are no keys, or the context has a secret key, or
        another modulus chain than the network needs.
    """
    require_bytes(public, "a client's public part", "Client.public")
    size = int.from_bytes(public[:_LENGTH], "big")
    context = library.public_context(public[_LENGTH : _LENGTH + size])
    degree, bits = library.shape(context)
    found = Parameters(degree, bits, bits[1] if len(bits) > 2 else 0)
    try:
      parameters.checked(found, self.facts.levels)
      check_size(found, self.facts)
    except ArgumentError as error:
      raise ContentError(str(error)) from None
    keys = library.from_bytes(
      library.seal().GaloisKeys(),
      context,
      public[_LENGTH + size :],
      "keys for rotations",
    )
    return Session(self.layers, self.facts.repeats, found, context, keys)


class Session:
  """A server's answers to one client; made by `Server.open`."""

  def __init__(
    self,
    layers: Sequence[network.Layer],
    repeats: int,
    chain: Parameters,
    context: Any,
    keys: Any,
  ):
    """Keep what answers need; use `Server.open`."""
    self._layers = layers
    self._repeats = repeats
    self._chain = chain
    self._context = context
    self._keys = keys
    self._seal = library.seal()
    inner = context.seal_context().data
    self._evaluator = self._seal.Evaluator(inner)
    self._encoder = self._seal.CKKSEncoder(inner)
    self._primes = library.primes(context)
    self._encoded: dict[tuple[int, int], Any] = {}

  def answer(self, question: bytes) -> bytes:
    """Return the encrypted outputs for an encrypted input.

    Args:
      question: From `Client.encrypt`.

    Raises:
      TypeError: If it is not bytes.
      ContentError: If it is not a ciphertext under this client's parameters.
    """
    require_bytes(question, "a question", "Client.encrypt")
    x = library.from_bytes(
      self._seal.Ciphertext(), self._context, question, "a question"
    )
    fresh = self._context.seal_context().data.first_parms_id()
    scale = 2.0**self._chain.scale_bits
    if x.parms_id() != fresh or x.size() != 2 or x.scale != scale:
      raise ContentError("not a question: a ciphertext that is not fresh")
    try:
      for i, layer in enumerate(self._layers):
        if i:
          self._square(x)
        x = self._dense(i, layer, x)
    except (ValueError, RuntimeError) as error:  # Of keys that do not fit.
      raise ContentError(f"cannot answer: {error}") from None
    return library.to_bytes(x)

  def _square(self, x: Any) -> None:
    self._evaluator.square_inplace(x)
    self._evaluator.relinearize_inplace(x, self._context.relin_keys().data)
    self._evaluator.rescale_to_next_inplace(x)

  def _dense(self, i: int, layer: network.Layer, x: Any) -> Any:
    """Return a layer's output, in every slot; see `packing`."""
    ev, repeats = self._evaluator, 1 if i else self._repeats
    turned, total = {0: x}, None
    for d, diagonal in enumerate(packing.diagonals(layer.kernel, repeats)):
      if d:
        # From the rotation without the lowest bit: one more, by a power of two.
        turned[d] = self._rotated(turned[d & (d - 1)], d & -d)
      plain = self._diagonal(i, d, diagonal, turned[d])
      if plain.is_zero():  # SEAL refuses to multiply by it.
        continue
      product = self._seal.Ciphertext()
      ev.multiply_plain(turned[d], plain, product)
      if total is None:
        total = product
      else:
        ev.add_inplace(total, product)
    if total is None:
      raise ValueError(f"all weights of layer {i} are 0, or nearly")
    ev.rescale_to_next_inplace(total)
    for step in packing.folds(layer.kernel, repeats):
      ev.add_inplace(total, self._rotated(total, step))
    bias = self._plain(layer.bias, total, total.scale)
    ev.add_plain_inplace(total, bias)
    return total

  def _rotated(self, x: Any, step: int) -> Any:
    found = self._seal.Ciphertext()
    self._evaluator.rotate_vector(x, step, self._keys, found)
    return found

  def _diagonal(self, i: int, d: int, diagonal: np.ndarray, x: Any) -> Any:
    """Return an encoded diagonal, which is made once."""
    if (i, d) not in self._encoded:
      # The prime that rescaling divides by, so that the scale stays.
      dropped = float(self._primes[x.coeff_modulus_size() - 1])
      self._encoded[i, d] = self._plain(diagonal, x, dropped)
    return self._encoded[i, d]

  def _plain(self, vector: np.ndarray, x: Any, scale: float) -> Any:
    """Encode a vector at the level of a ciphertext."""
    found = self._seal.Plaintext()
    values = packing.tiled(vector, self._chain.slots).tolist()
    self._encoder.encode(values, x.parms_id(), scale, found)
    return found


class Client:
  """The holder of the secret key, which never leaves it."""

  def __init__(self, facts: Facts, chain: Parameters | None = None):
    """Make keys.

    Args:
      facts: Of the server's network.
      chain: Parameters; the smallest 128-bit secure ones by default.

    Raises:
      TypeError: If facts or chain are something else.
      ArgumentError: If the network is too deep for the parameters, or its
        values too large.
    """
    if not isinstance(facts, Facts):
      raise TypeError(f"facts are {describe(facts)}: pass Server.facts")
    self.facts = facts
    self.parameters = parameters.checked(
      parameters.for_levels(facts.levels) if chain is None else chain,
      facts.levels,
    )
    check_size(self.parameters, facts)
    self._context = library.new_context(self.parameters)
    self._seal = library.seal()
    inner = self._context.seal_context().data
    secret = self._context.secret_key().data
    self._encoder = self._seal.CKKSEncoder(inner)
    self._encryptor = self._seal.Encryptor(inner, secret)
    self._decryptor = self._seal.Decryptor(inner, secret)

  def public(self) -> bytes:
    """Return evaluation keys, which the server needs once."""
    context = self._context.serialize(
      save_public_key=False, save_secret_key=False, save_galois_keys=False
    )
    rotations = packing.rotations(self.facts.width)
    keys = library.galois_keys(self._context, rotations)
    return len(context).to_bytes(_LENGTH, "big") + context + keys

  def encrypt(self, x: np.ndarray) -> bytes:
    """Return an encrypted input; the same input never twice as the same bytes.

    Args:
      x: float[inputs].

    Raises:
      ArgumentError: If it does not fit the network.
    """
    facts = self.facts
    x = reals(x, "inputs")
    if x.shape != (facts.inputs,):
      raise ArgumentError(f"an input of {x.shape}: ({facts.inputs},) expected")
    if not ((facts.low <= x) & (x <= facts.high)).all():
      raise ArgumentError(
        f"inputs from {x.min():g} to {x.max():g}: the network takes "
        f"{facts.low:g} to {facts.high:g}"
      )
    plain, scale = self._seal.Plaintext(), 2.0**self.parameters.scale_bits
    row = packing.repeated(x, facts.repeats)
    values = packing.tiled(row, self.parameters.slots).tolist()
    self._encoder.encode(values, scale, plain)
    return library.to_bytes(self._encryptor.encrypt_symmetric(plain))

  def decrypt(self, answer: bytes) -> np.ndarray:
    """Return the outputs, float64[outputs]; see `slots`.

    Do not show them to the server.
    """
    return self.slots(answer)[: self.facts.outputs]

  def slots(self, answer: bytes) -> np.ndarray:
    """Return all slots of an answer, which repeat the outputs, float64[slots].

    Args:
      answer: From `Session.answer`.

    Raises:
      TypeError: If it is not bytes.
      ContentError: If it is not a ciphertext under these parameters, or a
        question, which nobody has computed anything with.
    """
    require_bytes(answer, "an answer", "Session.answer")
    x = library.from_bytes(
      self._seal.Ciphertext(), self._context, answer, "an answer"
    )
    if x.parms_id() == self._context.seal_context().data.first_parms_id():
      raise ContentError("not an answer: a question, with all of its levels")
    plain = self._seal.Plaintext()
    self._decryptor.decrypt(x, plain)
    return np.asarray(self._encoder.decode_double(plain))
