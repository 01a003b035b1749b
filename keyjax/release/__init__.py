"""A server that holds a key, and uses it for others under a policy.

Envelopes are sealed for the server's public key. Callers, known by their TLS
certificates, have it unwrap them (`keyjax.keyring.ReleaseIdentity`); the server
asks the policy (`policy`), wants k of n approvals (`approvals`) and evidence of
the machine (`evidence`) where a rule says so, counts the use and logs it
(`state`, `log`), and only then answers (`deciding`, `releasing`, `server`).

    policy = PolicyFile("policy.toml")
    name = policy.current().name
    with open_state("state", name, log_key) as state:
      releaser = Releaser(policy, [server_key], state)
      async with serving(releaser, tls, host="127.0.0.1", port=8443) as url:
        ...

**Guarantees.**

- A key is released only to a caller of the policy who proves possession of the
  certificate, and only sealed to the key that the policy names for them.
- Where a rule requires k approvals, each release has k of its own, by distinct
  approvers whom the policy names and has not revoked, for this request.
- A key is never released more often than the rule's `uses`, nor after its
  `expires`, at any moment of a kill or restart. A change of the policy counts
  for the next request.
- Every release is on the disk, in a log that is signed, before it is answered:
  whoever received a key is in the log, with the approvals.

**Known breaks.**

- Whoever controls the server's machine, or reads its memory, has its key: they
  open everything without a trace. The key can be one of a service or a module
  (`keyjax.keyring.Kms`); it then ends with their access to the machine.
- A caller who received a data key has it: revocation and expiry concern later
  requests. Only a new data key excludes them (`keyjax revoke`).
- Approvers who collude, or sign without reading, approve anything.
- Times are those of the server's clock: who sets it back extends every expiry.
- Whoever can write the policy decides, alone; the log records what it was.
- The log can be withheld, replaced by an older one together with the counters,
  or forked by whoever has its key. Receipts that callers keep reveal it
  (`keyjax release-log verify --receipts`).
- Refused requests are logged only if the policy knows the caller, and as many
  as their `per_minute` allows; connections that TLS refuses are not logged.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.release import (
    approvals,
    asks,
    deciding,
    evidence,
    log,
    policy,
    releasing,
    server,
    state,
  )
  from keyjax.release.asks import Answer, Ask
  from keyjax.release.evidence import Evidence, JwtEvidence
  from keyjax.release.policy import Policy, PolicyFile
  from keyjax.release.releasing import Releaser
  from keyjax.release.server import serving
  from keyjax.release.state import open_state, read_state

__all__ = [
  "Answer",
  "Ask",
  "Evidence",
  "JwtEvidence",
  "Policy",
  "PolicyFile",
  "Releaser",
  "approvals",
  "asks",
  "deciding",
  "evidence",
  "log",
  "open_state",
  "policy",
  "read_state",
  "releasing",
  "server",
  "serving",
  "state",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "asks": ("Answer", "Ask"),
    "evidence": ("Evidence", "JwtEvidence"),
    "policy": ("Policy", "PolicyFile"),
    "releasing": ("Releaser",),
    "server": ("serving",),
    "state": ("open_state", "read_state"),
  },
)
