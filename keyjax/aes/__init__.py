"""AES on the device and on the host: standard, bit-sliced, without tables.

Two implementations return the same bytes. On an accelerator the cipher is a
circuit of AND, XOR and NOT on uint32 lanes (`bitslice`), GHASH is a matrix
product over GF(2) (`ghash`), and no address depends on a secret, which a test
verifies in the compiled programs. On the host, inside `jit` on a CPU,
machine code with the AES instructions of the processor works on XLA's own
memory (`host`, `native`). `impl="auto"` chooses by platform when a program is
lowered; "host" and "device" force one, for tests. Where no machine code was
compiled, or with KEYJAX_NATIVE=0, as `jax.export` needs it, "auto" is "device".

On a TPU counter mode and `encrypt_blocks` run as one Pallas kernel (`tpu`) that
keeps the state in registers through all rounds and moves only its input and
output through HBM. XLA runs the circuit instead under `vmap`, and where it
divides a program over several devices outside `shard_map` (`lowering`). The
kernel is tested by interpretation on a CPU and compiles for v5e and v6e; it has
not run on a TPU.

Cost:

* bytes: linear. Counter mode takes 49 32-bit operations a byte for AES-128 and
  68 for AES-256; GCM adds 1,024 int8 multiply-adds a byte on the matrix unit.
  Memory beyond input and output is one tile (`block`), whatever the size.
* leaves: one cipher call for a whole tree (`xor_words`). A leaf adds a
  millisecond of compilation in machine code, about 20 with the circuit, and
  nothing at run time.
* devices and hosts: each device computes the keystream of its own shards and
  communicates nothing, so the time falls with their number.
* keys: another key of the same size needs no compilation.

Limits: one key and counter, or one key and nonce, encrypt at most 2^32 - 2
blocks (64 GiB), as in SP 800-38D; a ValueError is raised whenever the sizes are
known. At that length a keystream is distinguished from random bits with
advantage 2^-65. With random nonces, encrypt fewer than 2^32 messages of GCM
under a key, or use `keyjax.seal`, which derives a key for each message.

Not provided: round keys and keystreams are kept in ordinary memory and are not
wiped, and nothing is claimed about side channels of shared hardware.

`prng` draws JAX random numbers from the same cipher: `prng.from_secret(secret,
label)` returns a key for `jax.random`. `derive` and `cmac` derive keys inside
`jit`.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.aes import prng
  from keyjax.aes.block import decrypt_blocks, encrypt_blocks
  from keyjax.aes.ctr import keystream
  from keyjax.aes.gcm import gcm_open, gcm_seal
  from keyjax.aes.kdf import cmac, derive
  from keyjax.aes.leaves import pads, xor_words
  from keyjax.aes.schedule import expand_key

__all__ = [
  "cmac",
  "decrypt_blocks",
  "derive",
  "encrypt_blocks",
  "expand_key",
  "gcm_open",
  "gcm_seal",
  "keystream",
  "pads",
  "prng",
  "xor_words",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "block": (
      "decrypt_blocks",
      "encrypt_blocks",
    ),
    "ctr": ("keystream",),
    "gcm": (
      "gcm_open",
      "gcm_seal",
    ),
    "kdf": (
      "cmac",
      "derive",
    ),
    "leaves": (
      "pads",
      "xor_words",
    ),
    "schedule": ("expand_key",),
  },
)
