"""Orbax checkpoints, sealed for recipients or plain.

    owner = SymmetricKey(Secret.generate())
    checkpoint.save("runs/a/100", state, [owner, colleague], step=100)
    state = checkpoint.restore("runs/a/100", owner, like=state, step=100)
    checkpoint.save("model", state, owner, name="net-a", run="a", signer=key)
    kernel = checkpoint.restore("runs/a/100", owner, leaves=".*dense/kernel")

A sealed checkpoint is an Orbax checkpoint (atomic, asynchronous, by many
processes, in OCDBT) whose arrays are ciphertext. A random data key, one for
each checkpoint, is wrapped for the recipients in an envelope
(`keyjax.keyring`). Each part of each leaf is one message of
c2sp.org/chunked-encryption (`keyjax.seal`) under a key derived for its leaf,
bound to the checkpoint's id, the step, and the leaf's path, dtype, shape and
the part's position. A manifest - the name of the model, the id of the run,
paths, shapes, dtypes, structure, metadata, headers of the safetensors files
that were sealed - is one more such message, and so is the padding. `format/`
defines the bytes, `parts/` seals and opens leaves, `storage/` writes and reads
files, and `weights/` those of other formats. No other part of KeyJAX depends on
Orbax.

**Guarantees.**

- Without a recipient's key, no value, name, shape, dtype, size of a leaf, step,
  model, run, metadata or signer is revealed. Visible are the padded total size
  and the padded size of the manifest (within 12 %; it grows with the number of
  leaves), the number of processes that wrote it, the ids and kinds of the
  recipients, the ids of the revoked, the checkpoint's random id, and the times
  that the file system and Orbax record. No file holds the path or the host that
  it was saved to, so that a copy does not reveal them; `commit_success.txt` of
  checkpoints of earlier releases holds the absolute path (`reencrypt` writes
  one without). In a `Manager` the folder's name is the step, and steps that
  are kept longer than later ones are known to be the best.
- What is returned is what was saved, bit for bit, or there is an error. Flipped
  bits, truncated or missing files, parts or chunks swapped within a checkpoint
  or between two, and the manifest or envelope of another checkpoint are all
  refused before anything is returned. Damage to padding or to Orbax's own
  records changes no value; `verify` finds the former.
- A checkpoint appears completely or not at all, and `rewrap` leaves the old
  envelope or the new one: after a kill at any point, on a full disk. In a
  bucket (`gs://...`) Orbax writes the object `commit_success.txt` last, and a
  folder without it is not a checkpoint; see *buckets* below.
- With a signer, and `verify_key` on restore: only the signer, and no recipient,
  can have produced it or changed a bit of it. Nothing here signs again what is
  not signed: `reencrypt` and a `Manager` with a signer open only what that
  signer, or the owner of `verify_key`, has signed.
- With `step`, `name` and `run` on restore too: the signer saved it as of this
  step, model and run. A `Manager` requires the step, and its own run of all
  checkpoints that record one.

**Known breaks.** What each attacker can do:

- *With the files, or the whole storage account*: delete them, keep them
  forever, observe who may open what and when it is written. Replace a newer
  checkpoint by an older one: give `step` to detect it. Replace it by one of
  another model or run of the same owner: give `name` and `run` to detect it;
  without a `run` of its own, a `Manager` accepts a checkpoint that records
  none. Write checkpoints of their own for a recipient whose public key they
  know: give `verify_key` to detect it. They see a rewrap, and can restore the
  old envelope, with its recipients and its list of the revoked.
- *With the files and an old key*: anyone who could open a checkpoint once can
  open that ciphertext forever, with the old envelope or the data key; `rewrap`
  does not undo that. `reencrypt` protects against those who obtain the new
  files later, not what they read before. A recipient's key opens everything
  that was ever wrapped for it.
- *As a recipient*: replace parts and manifest, which is not detected in an
  unsigned checkpoint. Share the data key. Restore the old envelope, or write
  another one. What an owner exports without `verify_key` and imports with a
  signer is signed as it is.
- *On the host while it saves or restores*: read weights and data key from
  memory, and from swap and core dumps. With `impl="device"` weights stay on
  the device, which receives the keys of their parts; the host still knows the
  keys and runs the program. Python does not clear keys.
- *On the network between the processes of a run*: passive listening reveals
  nothing (the data key travels by HPKE, see `storage.processes`). Altering the
  traffic can reveal the data key, and could reveal the weights without it.

**Buckets.** Neither that mark nor a listing is trusted for the content of a
checkpoint: an incomplete checkpoint with a mark, or a complete one without some
objects, is an error to its reader, as on a disk. What a bucket does not have:

- *Locks.* The second writer of a name is refused by a claim, an object next to
  the checkpoint that the first one renews; a killed writer's claim blocks the
  name for two minutes. A process that was stopped for longer, at the very
  moment when it completes a checkpoint, may still mix its objects with those of
  another; a mixture does not open. Two `Manager` of one folder have no claim:
  the first to complete a step has it, and a mixture does not open. A rewrap
  replaces the envelope that it read, or nothing, as on a disk.
- *Removal as a whole.* A `Manager` that is killed while it removes a step can
  leave its mark and only some of its objects: that one does not open.
- *Modes.* Everyone who may read the bucket can read what `save_plain` and
  `export_weights` put there. Cloud Storage may keep objects that were removed
  or replaced, including an old envelope (soft deletion, versions).

A writer needs permission to create, list and delete objects: before a save a
small one is written and removed. Names with `#`, `;`, `*`, `?`, `[` or a folder
`..` are refused.

Plain checkpoints (`save_plain`, `restore_plain`, a `Manager` without
recipients) are for weights that a scheme has locked, or that are not secret.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.checkpoint.errors import (
    CheckpointContentError,
    CheckpointError,
    CheckpointSignatureError,
    CheckpointStorageError,
  )
  from keyjax.checkpoint.exporting import export_weights
  from keyjax.checkpoint.inspecting import inspect, read_envelope
  from keyjax.checkpoint.manager import Manager
  from keyjax.checkpoint.plain import restore_plain, save_plain
  from keyjax.checkpoint.restoring import read_metadata, restore
  from keyjax.checkpoint.rewrapping import reencrypt, rewrap
  from keyjax.checkpoint.saving import save
  from keyjax.checkpoint.storage.locations import (
    absolute_path,
    is_remote,
    is_whole,
  )
  from keyjax.checkpoint.verifying import Problem, trace, verify
  from keyjax.checkpoint.weight_files import (
    import_weights,
    read_weights,
    stored_size,
    write_weights,
  )
  from keyjax.checkpoint.weight_formats import (
    WEIGHT_FORMATS,
    check_new,
    weight_format,
  )

__all__ = [
  "WEIGHT_FORMATS",
  "CheckpointContentError",
  "CheckpointError",
  "CheckpointSignatureError",
  "CheckpointStorageError",
  "Manager",
  "Problem",
  "absolute_path",
  "check_new",
  "export_weights",
  "import_weights",
  "inspect",
  "is_remote",
  "is_whole",
  "read_envelope",
  "read_metadata",
  "read_weights",
  "reencrypt",
  "restore",
  "restore_plain",
  "rewrap",
  "save",
  "save_plain",
  "stored_size",
  "trace",
  "verify",
  "weight_format",
  "write_weights",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "errors": (
      "CheckpointContentError",
      "CheckpointError",
      "CheckpointSignatureError",
      "CheckpointStorageError",
    ),
    "exporting": ("export_weights",),
    "inspecting": (
      "inspect",
      "read_envelope",
    ),
    "manager": ("Manager",),
    "plain": (
      "restore_plain",
      "save_plain",
    ),
    "restoring": (
      "read_metadata",
      "restore",
    ),
    "rewrapping": (
      "reencrypt",
      "rewrap",
    ),
    "saving": ("save",),
    "storage.locations": (
      "absolute_path",
      "is_remote",
      "is_whole",
    ),
    "verifying": (
      "Problem",
      "trace",
      "verify",
    ),
    "weight_files": (
      "import_weights",
      "read_weights",
      "stored_size",
      "write_weights",
    ),
    "weight_formats": (
      "WEIGHT_FORMATS",
      "check_new",
      "weight_format",
    ),
  },
)
