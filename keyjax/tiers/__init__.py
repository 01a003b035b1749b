"""One checkpoint, several data keys: each key unlocks its tiers of a model.

    tiers.save("model", params, [
      Tier("expert", ".*/experts/.*", [alice], opens=["base"]),
      Tier("base", ".*", [bob]),
    ])
    unlocked = tiers.restore("model", bob)    # present: base, not expert
    forward = tiers.authorize(unlocked.present, model.apply)
    logits = forward(unlocked.params, x)

Every leaf belongs to exactly one tier, and every tier is an ordinary sealed
checkpoint (`keyjax.checkpoint`) with a data key, an envelope and recipients of
its own, in one folder. `folder` names it, so that `checkpoint.rewrap`, `verify`
and `inspect` grant, check and show one tier and touch no byte of the others;
`reencrypt` revokes. Leaves of a tier that does not open are left out, never
replaced, and a model that runs without them says so in its signature: it takes
`present`, a dict of the tiers by name.

*Hierarchy.* `opens` names later tiers whose data keys are also wrapped for a
sub-key, derived (HKDF) from the data key of the tier that opens them. Whoever
opens the higher tier, now or after a grant, opens the lower ones.

**Guarantees.**

- Without a key of a tier, nothing of it is revealed that a sealed checkpoint
  does not reveal, and its name: no path, shape or structure, to strangers and
  to recipients of other tiers alike.
- What opens is what was saved, bit for bit, or there is an error. A tier of
  another checkpoint, of another save of the same model, or under another name
  is refused, and so are a tier that was added or removed: whoever opens any
  tier notices. Each tier holds the random id of the set and the names of all
  its tiers, sealed; what is not sealed must agree.
- The checkpoint appears with all its tiers or not at all.
- With `verify_key`, the signer saved every tier that opened, together.
- No key gives a leaf of a tier that it does not open: there are no zeros and no
  noise in its place, and a model that does not take `present` is refused.

**Known breaks.**

- *Sizes.* The padded size of each tier, its recipients' ids (a sub-key is one
  of them) and its name are public: how much was held back, and for how many.
- *Storage.* Whoever can write it can keep a tier from opening, by damage or
  with another envelope, and restore an older envelope or the bytes that a
  re-encryption replaced. The former shows in `present`, or is an error if a
  recipient's key fails; name the tiers that must open in `tiers=`.
- *Recipients.* A recipient of a tier can replace its weights, which only
  `verify_key` detects. A revoked recipient keeps what they copied, and a
  recipient of a higher tier could open the lower ones: `reencrypt` refuses to
  revoke the one without the others.
- *What is learnt elsewhere.* A tier holds weights. That the others perform a
  function badly without them is a property of training, not of encryption: if
  the function was not routed into the tier (`routed`), the other tiers may have
  it, and whoever has data of it can train them.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.tiers.authorizing import authorize
  from keyjax.tiers.index import folder, is_tiered
  from keyjax.tiers.inspecting import inspect, verify
  from keyjax.tiers.opening import with_sub_keys
  from keyjax.tiers.restoring import Unlocked, restore
  from keyjax.tiers.revoking import reencrypt
  from keyjax.tiers.routing import routed
  from keyjax.tiers.saving import Tier, save

__all__ = [
  "Tier",
  "Unlocked",
  "authorize",
  "folder",
  "inspect",
  "is_tiered",
  "reencrypt",
  "restore",
  "routed",
  "save",
  "verify",
  "with_sub_keys",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "authorizing": ("authorize",),
    "index": ("folder", "is_tiered"),
    "inspecting": ("inspect", "verify"),
    "opening": ("with_sub_keys",),
    "restoring": ("Unlocked", "restore"),
    "revoking": ("reencrypt",),
    "routing": ("routed",),
    "saving": ("Tier", "save"),
  },
)
