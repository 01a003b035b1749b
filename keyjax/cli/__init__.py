"""The `keyjax` command: keys and sealed checkpoints; see `keyjax --help`.

Each module defines a group of commands, with their options and help texts next
to the functions that run them. The library is imported when a command runs, so
help, completion and argument errors do not wait for JAX.

**Guarantees.** Keys, passphrases and shares are never arguments (arguments that
look like one are refused and not repeated) and are never printed, except by
`split --print`. No file is overwritten except by `rewrap` and `rotate`, which
leave the old version or the new one. Control characters in a checkpoint's names
and metadata are escaped before they reach a terminal.

**Known breaks.** `decrypt` writes unencrypted weights, and the input of
`encrypt` remains: disks keep the blocks of deleted files. Any process of the
same user can read an environment variable: prefer a descriptor.
"""

from keyjax.cli.program import main

__all__ = ["main"]
