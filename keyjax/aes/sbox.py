"""The S-box of AES as a circuit of AND, XOR and NOT, without a table.

A circuit runs on anything that has `&`, `^` and `~`: planes of uint32 lanes on
a device, NumPy arrays, Python integers. Its time does not depend on data.

References:
  Boyar, Peralta. "A Small Depth-16 Circuit for the AES S-Box". SEC 2012.
  (The 113-gate form with its 32 AND gates, of the same authors.)
"""

from typing import Any

Planes = tuple[Any, Any, Any, Any, Any, Any, Any, Any]


def forward(q: Planes) -> Planes:
  """Returns the planes of `S(x) ^ 0x63`; plane i holds bit i of every byte.

  The constant 0x63 of the affine map belongs to the round keys
  (`bitslice.masks`): a XOR with it commutes with ShiftRows and MixColumns.
  """
  x7, x6, x5, x4, x3, x2, x1, x0 = q
  y14, y13, y9, y8, t0 = x3 ^ x5, x0 ^ x6, x0 ^ x3, x0 ^ x5, x1 ^ x2
  y1 = t0 ^ x7
  y4, y12, y2, y5 = y1 ^ x3, y13 ^ y14, y1 ^ x0, y1 ^ x6
  y3, t1 = y5 ^ y8, x4 ^ y12
  y15, y20 = t1 ^ x5, t1 ^ x1
  y6, y10, y11 = y15 ^ x7, y15 ^ t0, y20 ^ y9
  y7, y17, y19, y16 = x7 ^ y11, y10 ^ y11, y10 ^ y8, t0 ^ y11
  y21, y18 = y13 ^ y16, x0 ^ y16

  # Inversion in GF(2^8), by way of GF(2^4).
  t2, t7, t12 = y12 & y15, y13 & y16, y9 & y11
  t14, t16 = (y14 & y17) ^ t12, (y8 & y10) ^ t12
  t21 = (y3 & y6) ^ t2 ^ t14 ^ y20
  t22 = (y4 & x7) ^ t2 ^ t16 ^ y19
  t23 = (y5 & y1) ^ t7 ^ t14 ^ y21
  t24 = (y2 & y7) ^ t7 ^ t16 ^ y18
  t25, t26 = t21 ^ t22, t21 & t23
  t27 = t24 ^ t26
  t29 = (t25 & t27) ^ t22
  t33 = ((t22 ^ t26) & (t23 ^ t24)) ^ t24
  t36 = t24 & (t27 ^ t33)
  t37 = t36 ^ t23 ^ t33
  t40 = t25 ^ (t29 & (t27 ^ t36))
  t41, t42, t43, t44 = t40 ^ t37, t29 ^ t33, t29 ^ t40, t33 ^ t37
  t45 = t42 ^ t41

  z0, z1, z2, z3, z4 = t44 & y15, t37 & y6, t33 & x7, t43 & y16, t40 & y1
  z5, z6, z7, z8, z9 = t29 & y7, t42 & y11, t45 & y17, t41 & y10, t44 & y12
  z10, z11, z12, z13 = t37 & y3, t33 & y4, t43 & y13, t40 & y5
  z14, z15, z16, z17 = t29 & y2, t42 & y9, t45 & y14, t41 & y8

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
