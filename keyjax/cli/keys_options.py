"""Options and help of the commands that make, rotate and back up keys."""

from typing import Any

from keyjax.cli import arguments
from keyjax.cli.arguments import command

KINDS = (
  "secret",
  "x25519",
  "mlkem768x25519",
  "rsa",
  "ed25519",
  "ml-dsa-65",
  "keyring",
)


def add_keygen(commands: Any) -> None:
  """Adds `keygen` and `public`."""
  _keygen(commands)
  _public(commands)


def _keygen(commands: Any) -> None:
  parser = command(
    commands,
    "keygen",
    "keygen:keygen",
    "make a key",
    """
FILE is new and has mode 600. A passphrase protects it: it is asked for, or
read from --passphrase. On stdout comes what is public: a recipient to encrypt
to or a key to verify with, and its id, a comment; of a secret the id alone.

kinds:
  secret            a shared key, or the root of keyrings; `split` backs it up
  mlkem768x25519    to receive, safe from quantum computers to come
  x25519            to receive
  rsa               to receive, where a service asks for RSA (3072 bits)
  ed25519           to sign
  ml-dsa-65         to sign, safe from quantum computers to come
  keyring           a team's keys, that rotate; its root opens it
""",
    """
(umask 077; head -c 24 /dev/urandom | base64 > alice.pass)
keyjax keygen mlkem768x25519 alice.key --pub --passphrase file:alice.pass
keyjax keygen x25519 bob.key --pub --plain
keyjax keygen ed25519 owner.key --pub --plain
keyjax keygen secret root.key --plain
keyjax keygen keyring team.keyring --name team --root file:root.key
""",
  )
  parser.add_argument(
    "kind", metavar="KIND", type=_kind, choices=KINDS, help="see above"
  )
  arguments.path(parser, "file", "the new key file", metavar="FILE")
  arguments.new_file(parser)
  arguments.secrets(parser)
  parser.add_argument(
    "--pub", action="store_true", help="write what is public to FILE.pub too"
  )
  parser.add_argument(
    "--name", metavar="NAME", help="of a keyring: of its model or its team"
  )


def _public(commands: Any) -> None:
  parser = command(
    commands,
    "public",
    "public:public",
    "show the public key and the id of a key file",
    """
The id is what `inspect` shows of recipients. The output is what `keygen --pub`
writes, and can be given to others: no private key is in it.
""",
    """
keyjax public alice.key --passphrase file:alice.pass
keyjax public bob.key.pub
""",
  )
  arguments.path(
    parser,
    "file",
    "a key file or another SOURCE; or public keys: FILE.pub, @FILE",
    metavar="FILE",
  )
  arguments.secrets(parser, root=False)


def _kind(text: str) -> str:
  """Reads a kind; the hybrid is often spelt with a hyphen."""
  return text.replace("mlkem768-x25519", "mlkem768x25519")


def add(commands: Any) -> None:
  """Adds `rotate`, `split` and `combine`."""
  _rotate(commands)
  _split(commands)
  _combine(commands)


def _rotate(commands: Any) -> None:
  parser = command(
    commands,
    "rotate",
    "rotate:rotate",
    "give a keyring a new primary key",
    """
Checkpoints that are given and that an older key of the keyring opens are
wrapped for the new key instead; other recipients stay. No tensor is touched.
The older keys still open what was not given. Rotation takes nothing from
somebody who knows an old key: see `revoke`.
""",
    """
keyjax rotate team.keyring --root file:root.key --checkpoint model-1 model-2
""",
  )
  arguments.path(parser, "keyring", "the keyring's file", metavar="KEYRING")
  arguments.path(
    parser,
    "--checkpoint",
    "sealed checkpoints",
    nargs="+",
    action="extend",
    default=[],
    metavar="PATH",
  )
  arguments.secrets(parser)


def _split(commands: Any) -> None:
  parser = command(
    commands,
    "split",
    "shares:split",
    "split a secret into shares, of which some restore it",
    """
Shares are SLIP-39 sentences of 33 words, a file of mode 600 for each; give
each to another person or place. Fewer than K tell nothing of the secret.
""",
    """
keyjax split file:root.key --threshold 2 --shares 3 --out shares
""",
  )
  parser.add_argument("source", metavar="SOURCE", help="the secret")
  parser.add_argument(
    "--threshold",
    type=arguments.number,
    required=True,
    metavar="K",
    help="how many shares restore it, 2 or more",
  )
  parser.add_argument(
    "--shares",
    type=arguments.number,
    required=True,
    metavar="N",
    help="how many shares there are, at most 16",
  )
  where = parser.add_mutually_exclusive_group(required=True)
  arguments.path(where, "--out", "a folder for share-1.txt ...", metavar="DIR")
  where.add_argument(
    "--print", action="store_true", help="print the shares instead"
  )
  arguments.secrets(parser, root=False)


def _combine(commands: Any) -> None:
  parser = command(
    commands,
    "combine",
    "shares:combine",
    "restore a secret from shares",
    "What comes out is the secret that the files name, or nothing.",
    """
keyjax combine shares/share-1.txt shares/share-3.txt --out again.key --plain
""",
  )
  arguments.path(parser, "files", "the shares", nargs="+", metavar="FILE")
  arguments.path(
    parser, "--out", "the new key file", required=True, metavar="FILE"
  )
  arguments.new_file(parser)
  arguments.secrets(parser, root=False)
