"""Seal a model folder in the layout of Hugging Face, and open it unchanged.

Tensors of `*.safetensors` files become the leaves of one sealed checkpoint,
and every other file (config.json, tokenizer.json, ...) a leaf of a second one.
The recipient gets the same folder again, byte for byte. Without the key, sizes
and the recipient's id can be seen.

    python examples/hugging_face_folder.py --workdir=runs/folder
    python examples/hugging_face_folder.py --folder=MY_MODEL --workdir=runs/mine

Without `--folder` it makes a small folder first; it takes about 4 s on two
cores, and downloads nothing. The shell does the same for the tensors alone:
`keyjax encrypt FOLDER SEALED --to @alice.key.pub`, then `keyjax decrypt`.
"""

import argparse
import json
import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np

from keyjax import checkpoint, keyring


def make_folder(folder: pathlib.Path) -> None:
  """Write a folder as `save_pretrained` does: two files and an index."""
  rng = np.random.default_rng(0)
  tensors = {
    f"model.layers.{i}.weight": rng.normal(size=(64, 64)).astype(np.float32)
    for i in range(4)
  }
  checkpoint.write_weights(
    folder,
    tensors,
    "safetensors",
    metadata={"format": "pt"},
    shard_bytes=40_000,
  )
  config = {"architectures": ["Toy"], "hidden_size": 64}
  (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def contents(folder: pathlib.Path) -> dict[str, bytes]:
  """Return the bytes of every file below a folder, by its relative path."""
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def tensor_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Return the index and the files that it lists, or the one file."""
  for index in folder.glob("*.safetensors.index.json"):
    names = set(json.loads(index.read_text())["weight_map"].values())
    return [index, *(folder / name for name in sorted(names))]
  found = list(folder.glob("*.safetensors"))
  if len(found) != 1:
    raise ValueError(f"{folder}: {len(found)} safetensors files, and no index")
  return found


def seal(
  folder: pathlib.Path, sealed: pathlib.Path, to: keyring.Recipient
) -> None:
  """Seal all files of a folder for a recipient; `signer=` would sign it."""
  tensors = tensor_files(folder)
  others = {
    name: np.frombuffer(data, np.uint8)
    for name, data in contents(folder).items()
    if folder / name not in tensors
  }
  # The names of the files are sealed too, in the metadata.
  about = {"tensors": [x.name for x in tensors], "others": sorted(others)}
  # Tensors are read and sealed one by one.
  checkpoint.import_weights(
    tensors[0], sealed / "tensors", to, name=folder.name, metadata=about
  )
  if others:
    checkpoint.save(sealed / "others", others, to, name=folder.name)


def unseal(
  sealed: pathlib.Path, folder: pathlib.Path, key: keyring.Identity
) -> None:
  """Open what `seal` wrote, if it is the model with the name of `folder`."""
  about = checkpoint.read_metadata(sealed / "tensors", key, name=folder.name)
  one = about["tensors"][0] if len(about["tensors"]) == 1 else ""
  checkpoint.export_weights(
    sealed / "tensors", folder / one, key, kind="safetensors", name=folder.name
  )
  if not about["others"]:
    return
  others = checkpoint.restore(sealed / "others", key, name=folder.name)
  for name in about["others"]:
    path = (folder / name).resolve()
    # Names come from whoever sealed the folder: anyone, unless it is signed.
    if not path.is_relative_to(folder.resolve()):
      raise ValueError(f"{name!r} is outside of the folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.asarray(others[name]).tobytes())


def main(argv: Sequence[str] | None = None) -> None:
  """Make a key, seal a folder for it, open the folder and compare."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", help="new folder; a temporary one if absent")
  parser.add_argument("--folder", help="model folder; a small one is made else")
  args = parser.parse_args(argv)
  workdir = pathlib.Path(args.workdir or tempfile.mkdtemp() + "/keyjax")
  workdir.mkdir(parents=True)
  folder = pathlib.Path(args.folder or workdir / "model").resolve()
  if not args.folder:
    make_folder(folder)

  # The recipient makes a key, keeps the file, and sends the public line.
  alice = keyring.HpkePrivateKey.generate("mlkem768x25519")
  keyring.write_key(workdir / "alice.key", alice, plain=True)
  line = keyring.format_recipient(alice.public)

  seal(folder, workdir / "sealed", keyring.parse_recipient(line))

  opened = workdir / "opened" / folder.name
  opened.parent.mkdir(mode=0o700)
  key = keyring.read_key(workdir / "alice.key")
  unseal(workdir / "sealed", opened, key)
  print(f"files: {', '.join(contents(opened))}")
  print(f"the same bytes: {contents(opened) == contents(folder)}")

  other = keyring.HpkePrivateKey.generate("mlkem768x25519")
  try:
    checkpoint.restore(workdir / "sealed" / "tensors", other)
  except keyring.KeyringError as error:
    print(f"another key: {error}")


if __name__ == "__main__":
  main()
