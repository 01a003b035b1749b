"""AES on the device and on the host."""

from keyjax.aes.ctr import keystream
from keyjax.aes.schedule import expand_key

__all__ = ["expand_key", "keystream"]
