"""The compiled cipher, built where there is a C compiler (`keyjax.aes.native`).

pyproject.toml declares everything else.
"""

import pathlib

import setuptools

FOLDER = pathlib.Path("keyjax", "aes", "csrc")


def library(name: str) -> setuptools.Extension:
  """Return a shared library; without it KeyJAX is slower on a CPU."""
  return setuptools.Extension(
    f"keyjax.aes.csrc.{name}",
    sources=[str(FOLDER / f"{name}.c")],
    depends=[str(path) for path in sorted(FOLDER.glob("*.[ch]"))],
    extra_compile_args=["-std=c11", "-O3", "-g0", "-fvisibility=hidden"],
    optional=True,
    py_limited_api=True,
  )


setuptools.setup(
  ext_modules=[library("cipher"), library("cipher_wide")],
  # It does not use Python: one wheel serves every version.
  options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
