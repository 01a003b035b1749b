// The cipher for the processors of x86-64 that have VAES and AVX-512.
#define WIDE
#include "cipher.c"
