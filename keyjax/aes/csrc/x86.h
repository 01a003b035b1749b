// The operations of block.h on x86-64, which includes it.

#include <immintrin.h>

#if defined(WIDE) && defined(__clang__)
#pragma clang attribute push(                                      \
    __attribute__((target(                                         \
        "aes,pclmul,ssse3,avx512f,avx512bw,vaes,vpclmulqdq"))), \
    apply_to = function)
#elif defined(WIDE)
#pragma GCC target("aes,pclmul,ssse3,avx512f,avx512bw,vaes,vpclmulqdq")
#elif defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("aes,pclmul,ssse3"))), apply_to = function)
#else
#pragma GCC target("aes,pclmul,ssse3")
#endif

#define HAS(feature) __builtin_cpu_supports(feature)

#if defined(WIDE)

typedef __m512i Vector;
#define LANES 4
#define OP(name) _mm512_##name
#define OP128(name) _mm512_##name##_epi128
#define XOR _mm512_xor_si512

static int supported(void) {
  __builtin_cpu_init();
  return HAS("avx512f") && HAS("avx512bw") && HAS("vaes") && HAS("vpclmulqdq");
}

static inline Vector repeat128(__m128i x) {
  return _mm512_broadcast_i32x4(x);
}
static inline Vector load(const uint8_t *p) { return _mm512_loadu_si512(p); }
static inline void store(uint8_t *p, Vector x) { _mm512_storeu_si512(p, x); }
static inline Vector swap_halves(Vector x) {
  return _mm512_shuffle_epi32(x, 0x4e);
}
// Lane j of vector i is the number of its block, i * LANES + j.
static inline Vector numbers(int i) {
  i *= LANES;
  return _mm512_set_epi64(0, i + 3, 0, i + 2, 0, i + 1, 0, i);
}
// The sum of all lanes in the first one, zeros in the others.
static inline Vector folded(Vector x) {
  __m256i y = _mm256_xor_si256(_mm512_castsi512_si256(x),
                               _mm512_extracti64x4_epi64(x, 1));
  return _mm512_zextsi128_si512(_mm_xor_si128(
      _mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1)));
}
static inline Vector inverse_mix(Vector x) {  // All lanes are alike.
  return repeat128(_mm_aesimc_si128(_mm512_castsi512_si128(x)));
}

#else

typedef __m128i Vector;
#define LANES 1
#define OP(name) _mm_##name
#define OP128(name) _mm_##name##_si128
#define XOR _mm_xor_si128

static int supported(void) {
  __builtin_cpu_init();
  return HAS("aes") && HAS("pclmul") && HAS("ssse3");
}

static inline Vector repeat128(__m128i x) { return x; }
static inline Vector load(const uint8_t *p) {
  return _mm_loadu_si128((const __m128i *)p);
}
static inline void store(uint8_t *p, Vector x) {
  _mm_storeu_si128((__m128i *)p, x);
}
static inline Vector swap_halves(Vector x) {
  return _mm_shuffle_epi32(x, 0x4e);
}
static inline Vector numbers(int i) { return _mm_set_epi64x(0, i); }
static inline Vector folded(Vector x) { return x; }
static inline Vector inverse_mix(Vector x) { return _mm_aesimc_si128(x); }

#endif

static inline Vector xor2(Vector a, Vector b) { return XOR(a, b); }
static inline Vector add64(Vector a, Vector b) { return OP(add_epi64)(a, b); }

// One block in every lane.
static inline Vector repeat(const uint8_t *p) {
  return repeat128(_mm_loadu_si128((const __m128i *)p));
}
static inline Vector pair(uint64_t low, uint64_t high) {
  return repeat128(_mm_set_epi64x((long long)high, (long long)low));
}
static inline void store_one(uint8_t *p, Vector x) {
  uint8_t bytes[16 * LANES];
  store(bytes, x);
  memcpy(p, bytes, 16);
}

// Reverse the bytes of each word.
static inline Vector swap_words(Vector x) {
  return OP(shuffle_epi8)(x, repeat128(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10,
                                                    11, 4, 5, 6, 7, 0, 1, 2,
                                                    3)));
}
// Reverse the bytes of each block.
static inline Vector reverse(Vector x) {
  return OP(shuffle_epi8)(x, repeat128(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8,
                                                    9, 10, 11, 12, 13, 14,
                                                    15)));
}

#if defined(WIDE)
#define CLMUL _mm512_clmulepi64_epi128
#else
#define CLMUL _mm_clmulepi64_si128
#endif
static inline Vector multiply_low(Vector a, Vector b) {
  return CLMUL(a, b, 0x00);
}
static inline Vector multiply_high(Vector a, Vector b) {
  return CLMUL(a, b, 0x11);
}
static inline Vector multiply_mixed(Vector a, Vector b) {
  return xor2(CLMUL(a, b, 0x01), CLMUL(a, b, 0x10));
}

// Encrypt a group in place, or decrypt it with `inverse_keys`.
static inline void run_rounds(const Vector *keys, int rounds, int inverse,
                              Vector *x) {
  EACH(i) x[i] = xor2(x[i], keys[0]);
  for (int r = 1; r < rounds; r++) {
    Vector key = keys[r];
    if (inverse) {
      EACH(i) x[i] = OP128(aesdec)(x[i], key);
    } else {
      EACH(i) x[i] = OP128(aesenc)(x[i], key);
    }
  }
  Vector last = keys[rounds];
  if (inverse) {
    EACH(i) x[i] = OP128(aesdeclast)(x[i], last);
  } else {
    EACH(i) x[i] = OP128(aesenclast)(x[i], last);
  }
}

// Move the byte at position order[i] of each block to position i.
static inline Vector permuted(Vector x, const uint8_t order[16]) {
  return OP(shuffle_epi8)(x, repeat(order));
}

// The S-box and its inverse on each byte of blocks, and ShiftRows, its inverse.
static inline Vector sub_shift(Vector x) {
  return OP128(aesenclast)(x, pair(0, 0));
}
static inline Vector inverse_sub_shift(Vector x) {
  return OP128(aesdeclast)(x, pair(0, 0));
}
