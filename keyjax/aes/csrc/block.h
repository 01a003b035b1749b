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
