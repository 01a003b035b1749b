"""Detection of private keys in text, to keep them out of output."""

import re

_SECRET = re.compile(
  r"KEYJAX-SECRET-|-----BEGIN|[\"']keyjax[\"']\s*:\s*[\"']key[\"']"
  r"|\b[0-9a-f]{64}\b",
  re.IGNORECASE,
)


def looks_secret(text: str) -> bool:
  """Return whether a text contains what looks like a private key.

  A digest of 64 hexadecimal digits looks like one, too.

  Example:
    >>> looks_secret("KEYJAX-SECRET-SECRET:AAAA"), looks_secret("aes:01ab")
    (True, False)
  """
  return _SECRET.search(text) is not None
