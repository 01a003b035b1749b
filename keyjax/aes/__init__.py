"""AES on the device and on the host."""

from keyjax.aes.block import decrypt_blocks, encrypt_blocks
from keyjax.aes.chunked import open_chunks, seal_chunks
from keyjax.aes.ctr import keystream
from keyjax.aes.gcm import gcm_open, gcm_seal
from keyjax.aes.kdf import cmac, derive
from keyjax.aes.leaves import xor_words
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
  "open_chunks",
  "seal_chunks",
  "xor_words",
]
