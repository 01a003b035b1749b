"""Keys and sealed checkpoints from a shell: `keyjax --help`.

One file a group of commands, loaded when one of them runs; `keys_options` and
`checkpoint_options` say what each takes and hold the texts of `--help`.
"""

from keyjax.cli.program import main

__all__ = ["main"]
