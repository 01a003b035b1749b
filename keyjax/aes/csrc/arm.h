// The operations of block.h on 64-bit ARM, which includes it.

#include <arm_neon.h>

#if defined(__linux__)
#include <sys/auxv.h>
#endif

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("aes"))), apply_to = function)
#else
#pragma GCC target("+crypto")
#endif

typedef uint8x16_t Vector;
#define LANES 1

static int supported(void) {
#if defined(__linux__)
  unsigned long wanted = 1 << 3 | 1 << 4;  // HWCAP_AES, HWCAP_PMULL
  return (getauxval(AT_HWCAP) & wanted) == wanted;
#else
  return 1;  // Every 64-bit processor of Apple.
#endif
}

static inline Vector load(const uint8_t *p) { return vld1q_u8(p); }
static inline void store(uint8_t *p, Vector x) { vst1q_u8(p, x); }
static inline Vector repeat(const uint8_t *p) { return vld1q_u8(p); }
static inline void store_one(uint8_t *p, Vector x) { vst1q_u8(p, x); }
static inline Vector xor2(Vector a, Vector b) { return veorq_u8(a, b); }
static inline Vector pair(uint64_t low, uint64_t high) {
  return vreinterpretq_u8_u64(
      vcombine_u64(vcreate_u64(low), vcreate_u64(high)));
}
static inline Vector numbers(int i) { return pair((uint64_t)i, 0); }
static inline Vector folded(Vector x) { return x; }
static inline Vector add64(Vector a, Vector b) {
  return vreinterpretq_u8_u64(
      vaddq_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}
static inline Vector swap_halves(Vector x) { return vextq_u8(x, x, 8); }
static inline Vector swap_words(Vector x) { return vrev32q_u8(x); }
static inline Vector reverse(Vector x) { return swap_halves(vrev64q_u8(x)); }

static inline Vector product(uint64_t a, uint64_t b) {
  return vreinterpretq_u8_p128(vmull_p64((poly64_t)a, (poly64_t)b));
}
static inline uint64_t low(Vector x) {
  return vgetq_lane_u64(vreinterpretq_u64_u8(x), 0);
}
static inline uint64_t high(Vector x) {
  return vgetq_lane_u64(vreinterpretq_u64_u8(x), 1);
}
static inline Vector multiply_low(Vector a, Vector b) {
  return product(low(a), low(b));
}
static inline Vector multiply_high(Vector a, Vector b) {
  return product(high(a), high(b));
}
static inline Vector multiply_mixed(Vector a, Vector b) {
  return xor2(product(low(a), high(b)), product(high(a), low(b)));
}

static inline Vector inverse_mix(Vector x) { return vaesimcq_u8(x); }

// Encrypt a group in place, or decrypt it with `inverse_keys`.
static inline void run_rounds(const Vector *keys, int rounds, int inverse,
                              Vector *x) {
  for (int r = 0; r < rounds - 1; r++) {
    Vector key = keys[r];
    if (inverse) {
      EACH(i) x[i] = vaesimcq_u8(vaesdq_u8(x[i], key));
    } else {
      EACH(i) x[i] = vaesmcq_u8(vaeseq_u8(x[i], key));
    }
  }
  Vector before = keys[rounds - 1], last = keys[rounds];
  if (inverse) {
    EACH(i) x[i] = xor2(vaesdq_u8(x[i], before), last);
  } else {
    EACH(i) x[i] = xor2(vaeseq_u8(x[i], before), last);
  }
}

// Move the byte at position order[i] of each block to position i.
static inline Vector permuted(Vector x, const uint8_t order[16]) {
  return vqtbl1q_u8(x, vld1q_u8(order));
}

// The S-box and its inverse on each byte of blocks, and ShiftRows, its inverse.
static inline Vector sub_shift(Vector x) { return vaeseq_u8(x, pair(0, 0)); }
static inline Vector inverse_sub_shift(Vector x) {
  return vaesdq_u8(x, pair(0, 0));
}
