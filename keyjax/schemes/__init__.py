"""The published families of key-based protection, one file each."""
