"""A linear layer under Paillier."""

import numpy as np
import pytest

from keyjax.defenses.homomorphic import paillier
from keyjax.errors import ArgumentError, ContentError

pytest.importorskip("phe", reason="pip install 'keyjax[homomorphic]'")
KERNEL = np.asarray([[0.5, -2.0], [0.0, 1.25], [-1.0, 3.0]])
BIAS = np.asarray([0.125, -0.75])
X = np.asarray([0.3, -0.7, 1.1])


@pytest.fixture(scope="module")
def owner() -> paillier.Owner:
  return paillier.Owner(2048)


def test_outputs_are_those_of_the_plain_layer(owner) -> None:
  question = owner.encrypt(X)
  assert len(question) == 3 * 512
  first, second = (
    paillier.linear(owner.modulus, question, KERNEL, BIAS) for _ in range(2)
  )
  found = owner.decrypt(first)
  np.testing.assert_allclose(found, X @ KERNEL + BIAS, atol=1e-4)
  # Each answer is disguised by itself, or it would tell the weights.
  assert first != second
  assert owner.decrypt(second).tolist() == found.tolist()
  assert owner.encrypt(X) != question


@pytest.mark.parametrize(
  ("data", "words"),
  [
    (b"", "not ciphertexts: 0 bytes"),
    (b"x" * 511, "511 bytes, of 512 each"),
    (b"\0" * 512, "under this key"),
    (b"\xff" * 512, "under this key"),
  ],
)
def test_garbage_is_refused_in_one_line(owner, data: bytes, words: str) -> None:
  for call in (
    owner.decrypt,
    lambda x: paillier.linear(owner.modulus, x, KERNEL, BIAS),
  ):
    with pytest.raises(ContentError, match=words) as e:
      call(data)
    assert "\n" not in str(e.value)


def test_numbers_that_are_no_outputs_are_refused(owner) -> None:
  """Any number is a ciphertext; almost none is of a fixed point."""
  with pytest.raises(ContentError, match="not ciphertexts under this key"):
    owner.decrypt(b"\0" * 511 + b"\2")


def test_what_does_not_fit_is_refused(owner) -> None:
  two = owner.encrypt(X[:2])
  with pytest.raises(ContentError, match="2 encrypted inputs: .* has 3"):
    paillier.linear(owner.modulus, two, KERNEL, BIAS)
  for x in (np.zeros((2, 2)), [np.nan], [2.0**31]):
    with pytest.raises(ArgumentError, match="vector of finite numbers"):
      owner.encrypt(np.asarray(x))
  for x in ([1j], ["a"], [None], None):
    with pytest.raises(ArgumentError, match="inputs are .*: pass real numbers"):
      owner.encrypt(x)
  for modulus in (15, 1 << 2048, -owner.modulus):
    with pytest.raises(ContentError, match="not a public key"):
      paillier.linear(modulus, two, KERNEL, BIAS)


@pytest.mark.parametrize("bits", [1024, 2049, 2048.0, "2048", None, True])
def test_bits_are_an_even_number(bits) -> None:
  with pytest.raises(ArgumentError, match=f"bits={bits!r}: an even whole num"):
    paillier.Owner(bits)


@pytest.mark.parametrize(
  ("kernel", "bias", "words"),
  [
    (KERNEL, BIAS[:1], r"\(3, 2\) and a bias of \(1,\) do not fit"),
    (KERNEL[0], BIAS, r"a kernel of \(2,\)"),
    (KERNEL * 1j, BIAS, "weights are complex128"),
    (KERNEL, None, "biases are object"),
  ],
)
def test_what_is_no_layer_is_refused(owner, kernel, bias, words: str) -> None:
  with pytest.raises(ArgumentError, match=words):
    paillier.linear(owner.modulus, b"", kernel, bias)


def test_what_is_no_message_is_refused(owner) -> None:
  with pytest.raises(TypeError, match="modulus is a str: pass Owner.modulus"):
    paillier.linear(str(owner.modulus), b"", KERNEL, BIAS)  # type: ignore
  with pytest.raises(TypeError, match="a question is None: pass the bytes"):
    paillier.linear(owner.modulus, None, KERNEL, BIAS)  # type: ignore
  with pytest.raises(TypeError, match="an answer is a str: pass the bytes"):
    owner.decrypt("a")


def test_a_client_solves_for_the_weights() -> None:
  """The known break: as many questions as inputs, and one."""
  answer = lambda x: x @ KERNEL + BIAS  # noqa: E731
  bias = answer(np.zeros(3))
  kernel = np.stack([answer(x) - bias for x in np.eye(3)])
  np.testing.assert_allclose(kernel, KERNEL)
