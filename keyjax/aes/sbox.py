"""The S-box of AES as a circuit of AND, XOR and NOT, without a table.

The circuit works on anything with `&` and `^`: planes of uint32 lanes on a
device, NumPy arrays, Python integers. Its time does not depend on the data.
Plane i holds bit i of every byte.

References:
  Boyar, Peralta. "A Small Depth-16 Circuit for the AES S-Box". SEC 2012.
  (This is the form with 113 gates, 32 of them AND, by the same authors.)
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

Planes = tuple[Any, ...]


def forward(q: Planes) -> Planes:
  """Return the planes of `S(x) ^ 0x63` for the planes of x.

  The constant 0x63 of the affine map is part of the round keys
  (`bitslice.masks`): XOR with it commutes with ShiftRows and MixColumns.
  """
  y = _linear(q)
  return _leave(y, _invert(*_enter(y)))


def staged(
  wrap: Callable[[Callable[..., Planes]], Callable[..., Planes]],
) -> Callable[[Planes], Planes]:
  """Return `forward` as three wrapped stages for planes computed separately.

  For a compiler that computes each plane of a stage separately and shares
  nothing between them: one plane takes fewer gates, all planes together more.
  """
  enter = wrap(lambda *q: _enter(_linear(q)))
  invert, leave = wrap(_invert), wrap(_leave_apart)
  return lambda q: leave(*q, *invert(*enter(*q)))


def unaffine(q: Planes) -> Planes:
  """Apply the inverse of the linear map of the S-box to planes."""
  return tuple(
    q[(i + 2) % 8] ^ q[(i + 5) % 8] ^ q[(i + 7) % 8] for i in range(8)
  )


def _linear(q: Planes) -> Planes:
  """Return the sums y0 .. y21 that both halves of the circuit use."""
  x7, x6, x5, x4, x3, x2, x1, x0 = q
  y14, y13, y9, y8, t0 = x3 ^ x5, x0 ^ x6, x0 ^ x3, x0 ^ x5, x1 ^ x2
  y1 = t0 ^ x7
  y4, y12, y2, y5 = y1 ^ x3, y13 ^ y14, y1 ^ x0, y1 ^ x6
  y3, t1 = y5 ^ y8, x4 ^ y12
  y15, y20 = t1 ^ x5, t1 ^ x1
  y6, y10, y11 = y15 ^ x7, y15 ^ t0, y20 ^ y9
  y7, y17, y19, y16 = x7 ^ y11, y10 ^ y11, y10 ^ y8, t0 ^ y11
  y21, y18 = y13 ^ y16, x0 ^ y16
  return (
    *(x7, y1, y2, y3, y4, y5, y6, y7, y8, y9, y10, y11, y12, y13, y14),
    *(y15, y16, y17, y18, y19, y20, y21),
  )


def _enter(y: Planes) -> Planes:
  """Return the four planes of the element of GF(2^4) to invert."""
  t2, t7, t12 = y[12] & y[15], y[13] & y[16], y[9] & y[11]
  t14, t16 = (y[14] & y[17]) ^ t12, (y[8] & y[10]) ^ t12
  return (
    (y[3] & y[6]) ^ t2 ^ t14 ^ y[20],
    (y[4] & y[0]) ^ t2 ^ t16 ^ y[19],
    (y[5] & y[1]) ^ t7 ^ t14 ^ y[21],
    (y[2] & y[7]) ^ t7 ^ t16 ^ y[18],
  )


def _invert(t21: Any, t22: Any, t23: Any, t24: Any) -> Planes:
  """Return the inverse in GF(2^4), four planes."""
  t25, t26 = t21 ^ t22, t21 & t23
  t27 = t24 ^ t26
  t29 = (t25 & t27) ^ t22
  t33 = ((t22 ^ t26) & (t23 ^ t24)) ^ t24
  t36 = t24 & (t27 ^ t33)
  return t29, t33, t36 ^ t23 ^ t33, t25 ^ (t29 & (t27 ^ t36))


def _leave(y: Planes, inverse: Planes) -> Planes:
  """Return the planes of the S-box from the input sums and the inverse."""
  t29, t33, t37, t40 = inverse
  t41, t42, t43, t44 = t40 ^ t37, t29 ^ t33, t29 ^ t40, t33 ^ t37
  t45 = t42 ^ t41
  z0, z1, z2, z3 = t44 & y[15], t37 & y[6], t33 & y[0], t43 & y[16]
  z4, z5, z6, z7 = t40 & y[1], t29 & y[7], t42 & y[11], t45 & y[17]
  z8, z9, z10, z11 = t41 & y[10], t44 & y[12], t37 & y[3], t33 & y[4]
  z12, z13, z14, z15 = t43 & y[13], t40 & y[5], t29 & y[2], t42 & y[9]
  z16, z17 = t45 & y[14], t41 & y[8]

  t46, t48, t53, t54 = z15 ^ z16, z5 ^ z13, z0 ^ z3, z6 ^ z7
  t57, t58, t59 = z2 ^ z12 ^ t53, z4 ^ t46, z3 ^ t54
  t62, t63, t64 = z7 ^ z8 ^ t58, z9 ^ z10 ^ t58, z4 ^ t59
  t65, t66 = z14 ^ t57 ^ t62, z1 ^ t63
  s3 = t53 ^ t66
  return (
    t48 ^ t46 ^ t57,
    z12 ^ t48 ^ t62,
    z10 ^ z11 ^ t65,
    z2 ^ z5 ^ t66,
    s3,
    z16 ^ z17 ^ t64 ^ t65,
    t64 ^ s3,
    t59 ^ t63,
  )


@functools.cache
def _sums() -> list[list[list[int]]]:
  """Return the inputs to sum for each plane of `_leave` and each inverse.

  `_leave` is bilinear in its input and the inverse, so unit vectors suffice.
  """
  y = _linear(tuple(1 << i for i in range(8)))
  sums = [
    _leave(y, tuple(255 if i == j else 0 for i in range(4))) for j in range(4)
  ]
  return [
    [[i for i in range(8) if sums[j][k] >> i & 1] for j in range(4)]
    for k in range(8)
  ]


def _leave_apart(*args: Any) -> Planes:
  """Return the same as `_leave`, each plane directly from the inputs."""
  x, inverse = args[:8], args[8:]
  xor = functools.partial(functools.reduce, operator.xor)
  return tuple(
    xor(
      [
        t & xor([x[i] for i in terms])
        for t, terms in zip(inverse, plane, strict=True)
        if terms
      ]
    )
    for plane in _sums()
  )
