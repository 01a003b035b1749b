"""Sealed data sets, and tags that prove where each record came from.

`seal_data` encrypts a folder of TFDS, or any files, for the same recipients as
checkpoints have; `open_data` reads single records in any order, as a data
source of Grain, and refuses each that is not the one that was sealed.
`RecordTags` leave a set as it is: a tag for each record is checked just before
the record is used.

**Guarantees of a sealed set.** Someone without a key of a recipient learns
sizes, the number of files, and the ids of recipients. Every byte that is read
was sealed for this set, this file and this index: a record that was changed,
moved, repeated, or taken from another set is refused with its index, and so are
files with more or fewer records. Of a signed set, that holds against other
recipients too.

**Known breaks.** Who can write to the folder can put an older set in its place,
or destroy it. Without a signature, every recipient can seal other records, and
whoever knows the public key of one can put another set in its place; tags can
be left out, and old records with their tags put among new ones.
Sizes of records are not hidden. And a seal or a tag says where a record came
from, not that it is right: poison that was there before passes.

References:
  C2SP, "Chunked Encryption", c2sp.org/chunked-encryption, 2026.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.data.changing import append_data, rewrap_data
  from keyjax.data.checked import Checked, record_bytes, tag_source
  from keyjax.data.exporting import export_data
  from keyjax.data.folders import changing_tags
  from keyjax.data.format import HEADER, is_sealed
  from keyjax.data.opened import SealedData, open_data
  from keyjax.data.records import Records
  from keyjax.data.sealing import seal_data
  from keyjax.data.tagged import TaggedData, open_tagged, tag_data
  from keyjax.data.tagger import Tagger
  from keyjax.data.tags import RecordTags
  from keyjax.data.verifying import (
    Problem,
    inspect_data,
    stored_size,
    verify_data,
    verify_tagged,
  )

__all__ = [
  "HEADER",
  "Checked",
  "Problem",
  "RecordTags",
  "Records",
  "SealedData",
  "TaggedData",
  "Tagger",
  "append_data",
  "changing_tags",
  "export_data",
  "inspect_data",
  "is_sealed",
  "open_data",
  "open_tagged",
  "record_bytes",
  "rewrap_data",
  "seal_data",
  "stored_size",
  "tag_data",
  "tag_source",
  "verify_data",
  "verify_tagged",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "changing": ("append_data", "rewrap_data"),
    "checked": ("Checked", "record_bytes", "tag_source"),
    "exporting": ("export_data",),
    "folders": ("changing_tags",),
    "format": ("HEADER", "is_sealed"),
    "opened": ("SealedData", "open_data"),
    "records": ("Records",),
    "sealing": ("seal_data",),
    "tagged": ("TaggedData", "open_tagged", "tag_data"),
    "tagger": ("Tagger",),
    "tags": ("RecordTags",),
    "verifying": (
      "Problem",
      "inspect_data",
      "stored_size",
      "verify_data",
      "verify_tagged",
    ),
  },
)
