"""Keys and sealed checkpoints from a shell: `keyjax --help`.

One file a group of commands, loaded when one of them runs; `keys_options` and
`checkpoint_options` say what each takes and hold the texts of `--help`.

**Guarantees.** A key, a passphrase or a share stands neither in an argument
(those that look like one are refused and not repeated) nor in what is printed,
but for `split --print`. Nothing is overwritten but by `rewrap` and `rotate`,
which leave the old or the new. Names and metadata of a checkpoint reach a
terminal with their control characters escaped.

**Known breaks.** What `decrypt` writes is in the clear, and what `encrypt` read
still lies there: disks keep the blocks of deleted files. A variable of the
environment can be read by every process of its user: prefer a descriptor.
"""

from keyjax.cli.program import main

__all__ = ["main"]
