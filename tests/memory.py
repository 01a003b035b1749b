"""Memory of compiled programs: freed before a process runs out of it."""

import ctypes
import functools
import gc
import itertools
import os
import pathlib
import sys

import jax
from jax._src.interpreters import mlir

# A program of one operation holds 3 MB and 3 mappings, AES-GCM as a circuit 15
# MB and 190 mappings. Linux ends a process, from within LLVM, that asks for
# more than 65,530 (vm.max_map_count).
_TOTAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
# A fifth of the memory: freeing takes 4 s, and what is needed again is traced
# again.
_MOST_BYTES = min(max(2_500_000_000, _TOTAL // 5), 5_000_000_000)
_MOST_MAPPINGS = 40_000
_SELF = pathlib.Path("/proc/self")
_EVERY = 8  # Calls; counting the mappings takes 10 ms.
_calls = itertools.count(1)
_MOST_MODULES = 500  # Of one context, which keeps their types and constants.


def collect_garbage_less_often() -> None:
  """Count longer before a collection.

  Tracing makes many objects and few cycles: by default Python spends 40 % of
  the tests' time looking for them among the modules of JAX.
  """
  gc.set_threshold(50_000, 20, 100)


def leave_out_what_is_imported() -> None:
  """Search for garbage only among what is made from now on."""
  gc.collect()
  gc.freeze()


def share_contexts() -> None:
  """Let programs share the MLIR context that JAX lowers them in.

  JAX makes one for each program, of which it keeps some: 9 % of the tests' time
  and half of their memory.
  """
  make = getattr(mlir, "make_ir_context", None)
  if make is None:
    return  # Another version of JAX; its tests take longer.
  numbers = itertools.count()
  made = functools.lru_cache(maxsize=1)(lambda _: make())
  mlir.make_ir_context = lambda: made(next(numbers) // _MOST_MODULES)


def _too_much() -> bool:
  if sys.platform != "linux":
    return False
  pages = int((_SELF / "statm").read_text().split()[1])
  if pages * 4096 > _MOST_BYTES:
    return True
  return (_SELF / "maps").read_bytes().count(b"\n") > _MOST_MAPPINGS


def free_programs_if_many() -> None:
  """Drop all compiled programs if they hold too much memory.

  What is needed again comes from the persistent compilation cache.
  """
  if next(_calls) % _EVERY or not _too_much():
    return
  jax.clear_caches()
  gc.collect()
  trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
  if trim is not None:  # glibc keeps what was freed, gigabytes of it.
    trim(0)
