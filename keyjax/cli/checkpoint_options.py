"""Options and help of the commands that work on checkpoints."""

from typing import Any

import shtab

from keyjax.cli import arguments
from keyjax.cli.arguments import command

FORMATS = ("orbax", "safetensors", "msgpack")


def add(commands: Any) -> None:
  """Adds every command of this file."""
  for one in (_encrypt, _inspect, _verify, _decrypt, _rewrap, _revoke):
    one(commands)


def _encrypt(commands: Any) -> None:
  parser = command(
    commands,
    "encrypt",
    "transform:encrypt",
    "seal weights for recipients",
    """
IN is a plain Orbax checkpoint, or a file that ends in .safetensors or
.msgpack. OUT is a new folder, whole or absent. Names, shapes, dtypes, the step
and the metadata are sealed too; a stranger learns the total size and the ids
of the recipients. IN is left where it is: delete it if it must not be read.
""",
    """
keyjax encrypt model.safetensors model-1 --step 1000 --to @alice.key.pub \\
  --to @bob.key.pub --to keyring:team.keyring --root file:root.key \\
  --sign file:owner.key
""",
  )
  _in_and_out(parser)
  arguments.recipients(parser)
  arguments.signer(parser)
  parser.add_argument(
    "--step",
    type=arguments.number,
    default=0,
    metavar="N",
    help="of the training, sealed; 0 by default",
  )
  arguments.path(
    parser, "--metadata", "a JSON object, sealed", metavar="FILE.json"
  )
  arguments.secrets(parser)


def _decrypt(commands: Any) -> None:
  parser = command(
    commands,
    "decrypt",
    "transform:decrypt",
    "open weights and write them in the clear",
    """
OUT is new. Its suffix says the format: .safetensors, .msgpack, or none for a
plain Orbax checkpoint, a folder. With --leaves, only the chunks that hold these
are read and opened.
""",
    """
keyjax decrypt model-1 opened.safetensors -i file:bob.key
keyjax decrypt model-1 kernels.safetensors -i file:bob.key \\
  --leaves ".*kernel"
""",
  )
  _in_and_out(parser)
  parser.add_argument(
    "--leaves",
    type=arguments.pattern,
    metavar="REGEX",
    help="only those whose whole path matches; `inspect` shows the paths",
  )
  parser.add_argument("--format", choices=FORMATS, help="whatever the suffix")
  arguments.identities(parser)
  arguments.verify_key(parser)
  arguments.secrets(parser)


def _inspect(commands: Any) -> None:
  parser = command(
    commands,
    "inspect",
    "reading:inspect",
    "say what a checkpoint holds",
    """
Without a key: what a stranger learns, which nothing proves. With one: the step,
the metadata, the leaves. Tensors are not read; `verify` reads them.
""",
    """
keyjax inspect model-1
keyjax inspect model-1 -i file:bob.key
""",
  )
  _checkpoint(parser)
  arguments.identities(parser)
  parser.add_argument(
    "--public", action="store_true", help="use no key, not KEYJAX_IDENTITY"
  )
  arguments.secrets(parser)


def _verify(commands: Any) -> None:
  parser = command(
    commands,
    "verify",
    "reading:verify",
    "open every chunk and say what is wrong, and where",
    """
Whoever can open a checkpoint can write one: only --verify-key says that it is
the owner's.
""",
    """
keyjax verify model-1 -i file:bob.key --verify-key @owner.key.pub
""",
  )
  _checkpoint(parser)
  arguments.identities(parser)
  arguments.verify_key(parser)
  arguments.secrets(parser)


def _rewrap(commands: Any) -> None:
  parser = command(
    commands,
    "rewrap",
    "access:rewrap",
    "give a checkpoint other recipients",
    """
The data key stays and no tensor is touched: right to add somebody. Whoever
could open the checkpoint may have kept that key: to shut them out, `revoke`.
--to replaces all recipients; with --keep it adds to them.
""",
    """
keyjax keygen x25519 carol.key --pub --plain
keyjax rewrap model-1 -i file:bob.key --keep --to @carol.key.pub
""",
  )
  _checkpoint(parser)
  arguments.identities(parser)
  arguments.recipients(parser)
  parser.add_argument(
    "--keep", action="store_true", help="keep the recipients that it has"
  )
  _reinstate(parser)
  arguments.secrets(parser)


def _revoke(commands: Any) -> None:
  parser = command(
    commands,
    "revoke",
    "access:revoke",
    "encrypt again without somebody, under a new data key",
    """
Whoever could open PATH may have kept its data key, so another envelope would
not do: OUT has a new one, wrapped for --to alone. Delete PATH and its copies:
they can be opened by whom they were made for, for ever. Who copied the weights
keeps them. A signature does not carry over: give --sign.
""",
    """
keyjax revoke model-1 model-2 -i file:bob.key --recipient @carol.key.pub \\
  --to @alice.key.pub --to @bob.key.pub --to keyring:team.keyring \\
  --root file:root.key --sign file:owner.key
""",
  )
  _checkpoint(parser)
  arguments.path(parser, "out", "the new folder", metavar="OUT")
  arguments.identities(parser)
  parser.add_argument(
    "--recipient",
    action="append",
    required=True,
    metavar="ID",
    help="who loses access: an id that `inspect` shows, keyjax-KIND:..., or "
    "@FILE; may be given again",
  )
  arguments.recipients(parser)
  _reinstate(parser)
  arguments.signer(parser)
  arguments.verify_key(parser)
  arguments.secrets(parser)


def _reinstate(parser: Any) -> None:
  parser.add_argument(
    "--reinstate",
    action="store_true",
    help="let --to name somebody who was revoked",
  )


def _in_and_out(parser: Any) -> None:
  arguments.path(parser, "source", "what is read", metavar="IN")
  arguments.path(parser, "out", "what is written", metavar="OUT")


def _checkpoint(parser: Any) -> None:
  folder = parser.add_argument(
    "path", metavar="PATH", help="a sealed checkpoint"
  )
  folder.complete = shtab.DIRECTORY
