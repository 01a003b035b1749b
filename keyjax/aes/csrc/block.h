// AES and carry-less multiplication by the instructions of the processor, which
// take the same time for all data. A `Vector` holds LANES blocks; each function
// works on every block. `supported` must be true before any use.
//
// Compiled with WIDE for the processors of x86-64 with VAES and AVX-512.

#ifndef KEYJAX_BLOCK_H_
#define KEYJAX_BLOCK_H_

#include <stdint.h>
#include <string.h>

#define WIDTH 8  // Vectors in flight: hides the latency of a round.
#define EACH(i) _Pragma("GCC unroll 8") for (int i = 0; i < WIDTH; i++)

#if defined(__x86_64__)
#include "x86.h"
#elif defined(__aarch64__) && !defined(WIDE)
#include "arm.h"
#else
#error "no AES instructions are known for this processor"
#endif

#define BLOCKS (LANES * WIDTH)
#define GROUP (16 * BLOCKS)  // Bytes that are processed at once.

typedef struct {
  int rounds;
  Vector keys[15];
} Schedule;

// Read uint32[rounds + 1, 4], big-endian words, stored little-endian.
static inline Schedule schedule_of(const uint8_t *words, int rounds) {
  Schedule out = {.rounds = rounds};
  for (int r = 0; r <= rounds; r++) {
    out.keys[r] = swap_words(repeat(words + 16 * r));
  }
  return out;
}

// The S-box on each byte, or its inverse (FIPS 197, sections 5.1.1 and 5.3.2).
static inline Vector substituted(Vector x) {
  static const uint8_t inverse_shift[16] = {0, 13, 10, 7, 4, 1,  14, 11,
                                            8, 5,  2,  15, 12, 9, 6, 3};
  return sub_shift(permuted(x, inverse_shift));
}
static inline Vector inverse_substituted(Vector x) {
  static const uint8_t shift[16] = {0, 5,  10, 15, 4,  9, 14, 3,
                                    8, 13, 2,  7,  12, 1, 6,  11};
  return inverse_sub_shift(permuted(x, shift));
}

static inline uint32_t substitute_word(uint32_t word) {
  uint8_t bytes[16];
  for (int i = 0; i < 4; i++) memcpy(bytes + 4 * i, &word, 4);
  store_one(bytes, sub_shift(repeat(bytes)));  // The columns are alike.
  memcpy(&word, bytes, 4);
  return word;
}

// Expand a key of 16, 24 or 32 bytes (FIPS 197, section 5.2). Words are in the
// order of memory, little-endian: RotWord rotates to the right.
static inline Schedule expanded(const uint8_t *key, size_t size) {
  int length = (int)size / 4, rounds = length + 6;
  uint32_t words[60], constant = 1;
  memcpy(words, key, size);
  for (int i = length; i < 4 * (rounds + 1); i++) {
    uint32_t word = words[i - 1];
    if (i % length == 0) {
      word = substitute_word(word >> 8 | word << 24) ^ constant;
      constant = constant << 1 ^ (constant & 0x80 ? 0x11b : 0);
    } else if (length == 8 && i % length == 4) {
      word = substitute_word(word);
    }
    words[i] = words[i - length] ^ word;
  }
  Schedule out = {.rounds = rounds};
  for (int r = 0; r <= rounds; r++) {
    out.keys[r] = repeat((const uint8_t *)(words + 4 * r));
  }
  return out;
}

// The schedule of the equivalent inverse cipher (FIPS 197, section 5.3.5).
static inline Schedule inverse_keys(const Schedule *forward) {
  int rounds = forward->rounds;
  Schedule out = {.rounds = rounds};
  for (int r = 0; r <= rounds; r++) {
    Vector key = forward->keys[rounds - r];
    out.keys[r] = r == 0 || r == rounds ? key : inverse_mix(key);
  }
  return out;
}

static inline void load_group(Vector *x, const uint8_t *from) {
  EACH(i) x[i] = load(from + 16 * LANES * i);
}

static inline void store_group(uint8_t *to, const Vector *x) {
  EACH(i) store(to + 16 * LANES * i, x[i]);
}

#endif
