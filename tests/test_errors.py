"""The exceptions of the library."""

import inspect
import pickle

import pytest

from keyjax import errors

FIXED = (errors.SealError, errors.CannotOpen, errors.WrongPassphrase)
ALL = [
  kind
  for kind in vars(errors).values()
  if inspect.isclass(kind) and issubclass(kind, errors.KeyjaxError)
]


@pytest.mark.parametrize("kind", ALL)
def test_an_error_returns_from_another_process(kind):
  error = kind() if kind in FIXED else kind("what is wrong")
  if kind is errors.WrongPassphrase:
    error = kind("owner.key")
  for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    found = pickle.loads(pickle.dumps(error, protocol))
    assert type(found) is kind and str(found) == str(error)
