"""AES on the device and on the host."""

from keyjax.aes.block import decrypt_blocks, encrypt_blocks
from keyjax.aes.ctr import keystream
from keyjax.aes.schedule import expand_key

__all__ = ["decrypt_blocks", "encrypt_blocks", "expand_key", "keystream"]
