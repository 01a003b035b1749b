"""age, by pyrage: one call in a process of its own, run by `ciphers.py`.

    python -m experiments.benchmarks.pretrained.age ACTION KEY IN OUT

The interpreter is that of the peers' environment, which has pyrage alone.
"""

import pathlib
import sys


def run(action: str, key: str, source: str, target: str) -> None:
  """Make a key file, or encrypt or decrypt a file with it.

  Args:
    action: `keygen`, `encrypt` or `decrypt`.
    key: File of an X25519 identity, whose public part is the recipient.
    source: File to read.
    target: File to write.
  """
  import pyrage  # KeyJAX's own environment does not have it.

  file = pathlib.Path(key)
  if action == "keygen":
    file.write_text(str(pyrage.x25519.Identity.generate()))
    return
  identity = pyrage.x25519.Identity.from_str(file.read_text())
  if action == "encrypt":
    pyrage.encrypt_file(source, target, [identity.to_public()])
  else:
    pyrage.decrypt_file(source, target, [identity])


if __name__ == "__main__":
  run(*sys.argv[1:])
