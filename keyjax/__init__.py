"""KeyJAX: key-based protection of neural networks.

Names are imported when they are first used, so that the command line answers
`keyjax --help` before JAX is loaded.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax import (
    aes,
    attacks,
    capability,
    card,
    checkpoint,
    data,
    defenses,
    fallback,
    interpret,
    keyring,
    keys,
    laws,
    parallel,
    quantize,
    release,
    seal,
    secrets,
    signatures,
    tasks,
    tiers,
    tree,
  )
  from keyjax.interception import nnx_apply
  from keyjax.key_change import rekey
  from keyjax.scheme import (
    Scheme,
    authorize,
    chain,
    masked,
    partition,
  )
  from keyjax.schemes.adv_params import adv_params
  from keyjax.schemes.deep_lock import deep_lock
  from keyjax.schemes.feature_permutation import feature_permutation
  from keyjax.schemes.hpnn import absorb, hpnn
  from keyjax.schemes.identity import identity
  from keyjax.schemes.keyed_noise import keyed_noise
  from keyjax.schemes.licensee_mark import licensee_mark, trace_marks
  from keyjax.schemes.patch_embedding import (
    fold_patch_embedding,
    rekey_patch_embedding,
    unfold_patch_embedding,
  )
  from keyjax.schemes.permutation_lock import permutation_lock
  from keyjax.schemes.pixel_shuffle import pixel_shuffle
  from keyjax.seal import SealError
  from keyjax.secrets import Secret

__all__ = [
  "Scheme",
  "Secret",
  "SealError",
  "absorb",
  "adv_params",
  "aes",
  "attacks",
  "authorize",
  "capability",
  "card",
  "chain",
  "checkpoint",
  "data",
  "deep_lock",
  "defenses",
  "fallback",
  "feature_permutation",
  "fold_patch_embedding",
  "hpnn",
  "identity",
  "interpret",
  "keyed_noise",
  "keyring",
  "keys",
  "laws",
  "licensee_mark",
  "masked",
  "nnx_apply",
  "parallel",
  "partition",
  "permutation_lock",
  "pixel_shuffle",
  "quantize",
  "rekey",
  "rekey_patch_embedding",
  "release",
  "seal",
  "secrets",
  "signatures",
  "tasks",
  "tiers",
  "trace_marks",
  "tree",
  "unfold_patch_embedding",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "interception": ("nnx_apply",),
    "key_change": ("rekey",),
    "secrets": ("Secret",),
    "scheme": (
      "Scheme",
      "authorize",
      "chain",
      "masked",
      "partition",
    ),
    "schemes.adv_params": ("adv_params",),
    "schemes.deep_lock": ("deep_lock",),
    "schemes.feature_permutation": ("feature_permutation",),
    "schemes.hpnn": ("absorb", "hpnn"),
    "schemes.identity": ("identity",),
    "schemes.keyed_noise": ("keyed_noise",),
    "schemes.licensee_mark": ("licensee_mark", "trace_marks"),
    "schemes.patch_embedding": (
      "fold_patch_embedding",
      "rekey_patch_embedding",
      "unfold_patch_embedding",
    ),
    "schemes.permutation_lock": ("permutation_lock",),
    "schemes.pixel_shuffle": ("pixel_shuffle",),
    "seal": ("SealError",),
  },
)
