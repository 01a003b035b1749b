"""Orbax checkpoints, sealed for recipients or plain; nothing else knows Orbax.

    owner = SymmetricKey(Secret.generate())
    checkpoint.save("runs/a/100", state, [owner, colleague], step=100)
    state = checkpoint.restore("runs/a/100", owner, like=state, step=100)
    kernel = checkpoint.restore("runs/a/100", owner, leaves=".*dense/kernel")

A sealed checkpoint is an Orbax checkpoint (atomic, asynchronous, by many
processes, in OCDBT) whose arrays are ciphertext. A random data key, one a
checkpoint, is wrapped for the recipients in an envelope (`keyjax.keyring`).
Each part of each leaf is one message of c2sp.org/chunked-encryption
(`keyjax.seal`) under a key derived for its leaf, bound to the checkpoint's id,
the step, and the leaf's path, dtype, shape and the part's position. A manifest
- names, shapes, dtypes, structure, metadata - is one more such message, and so
is the padding. See `layout` for what lies where, `store` for the files.

**Guarantees.**

- Without a recipient's key: no value, name, shape, dtype, size of a leaf, step,
  metadata or signer shows. The padded total and the padded size of the manifest
  (within 12 %; it grows with the number of leaves), the number of processes
  that wrote it, the ids of recipients and of the revoked, the checkpoint's
  random id and the times that the file system and Orbax note do. In a `Manager`
  the folder's name is the step.
- What is returned is what was saved, bit for bit, or there is an error: a bit
  flipped, a file cut or missing, parts or chunks swapped within a checkpoint or
  between two, a manifest or envelope of another checkpoint, all are refused
  before anything is returned. Damage to padding or to what Orbax notes for
  itself changes no value; `verify` finds the former.
- A checkpoint appears whole or not at all, and `rewrap` leaves the old envelope
  or the new one: after a kill at any point, on a full disk. In a bucket
  (`gs://...`) Orbax writes the object `commit_success.txt` last, and what has
  none is no checkpoint; see *buckets* below.
- With a signer, and `verify_key` where it is read: nobody else, a recipient
  neither, made it or changed a bit of it.

**Known breaks.** What each attacker can do:

- *With the files, or all of the storage account*: delete them, keep them for
  ever, follow who may open what and when it is written. Put a whole older
  checkpoint in a newer one's place: give `step` to notice. Write checkpoints of
  their own for a recipient whose public key they know: give `verify_key` to
  notice. They see a rewrap, and can put the old envelope back.
- *With the files and an old key*: whoever could open a checkpoint once can open
  that ciphertext for ever, from the old envelope or from the data key;
  `rewrap` takes nothing back. `reencrypt` protects from those who come for the
  new files later, not what they read before. A recipient's key opens all that
  was ever wrapped for it.
- *As a recipient*: replace parts and manifest, which an unsigned checkpoint
  does not show. Give the data key away.
- *On the host while it saves or restores*: read weights and data key from
  memory, also from swap and core dumps. With `impl="device"` weights stay on
  the device, and the keys of their parts reach it; the host still knows the
  keys and runs the program. Python does not clear keys.
- *On the network between the processes of a run*: listening gives nothing (the
  data key travels by HPKE, see `agree`); altering the traffic can give the data
  key, and could give the weights without it.

**Buckets.** Neither that mark nor a listing is trusted for what a checkpoint
holds: half a checkpoint with a mark, or a whole one without some objects, is an
error to who reads it, as on a disk. What a bucket does not give:

- *Locks.* Of two who save under one name, or rewrap, at a time, the last to
  write an object wins. A mixture of two checkpoints does not open. On a disk
  the second writer is refused.
- *Removal as a whole.* A `Manager` that is killed while it removes an old
  checkpoint can leave its mark and not all of its objects: that one does not
  open.
- *Modes.* Who may read the bucket reads what `save_plain` and `export_weights`
  put there; Cloud Storage may keep objects that were removed or replaced, an
  old envelope too (soft deletion, versions).

Whoever writes needs to create, list and delete objects: before a save a small
one is written and removed. Names with `#`, `;`, `*`, `?`, `[` or a folder `..`
are refused.

Plain checkpoints (`save_plain`, `restore_plain`, a `Manager` without
recipients) are for what was locked by a scheme already, or is no secret.
"""

from keyjax.checkpoint.errors import (
  CheckpointContentError,
  CheckpointError,
  CheckpointStorageError,
)
from keyjax.checkpoint.manager import Manager
from keyjax.checkpoint.plain import restore_plain, save_plain
from keyjax.checkpoint.rewrap import reencrypt, rewrap
from keyjax.checkpoint.sealed import read_metadata, restore, save
from keyjax.checkpoint.verify import Problem, inspect, trace, verify
from keyjax.checkpoint.weight_files import (
  WEIGHT_FORMATS,
  check_new,
  export_weights,
  import_weights,
  read_weights,
  stored_size,
  weight_format,
  write_weights,
)

__all__ = [
  "WEIGHT_FORMATS",
  "CheckpointContentError",
  "CheckpointError",
  "CheckpointStorageError",
  "Manager",
  "Problem",
  "check_new",
  "export_weights",
  "import_weights",
  "inspect",
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
