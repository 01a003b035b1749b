// The chunks of a message (c2sp.org/chunked-encryption): GCM over 16 KiB each.

#ifndef KEYJAX_CHUNKS_H_
#define KEYJAX_CHUNKS_H_

#include <stdatomic.h>

#include "modes.h"

#define CHUNK ((size_t)1 << 14)
#define TAG ((size_t)16)

// Consecutive chunks; `plain` is the size of what they hold.
typedef struct {
  Schedule schedule;
  Hash hash;
  uint8_t base[12];
  uint64_t first;  // Index of the first chunk in its message.
  const uint8_t *in;
  uint8_t *out;
  size_t plain;
  atomic_int forged;
} Chunks;

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static void start_chunks(Chunks *c, const Schedule *s, const uint8_t base[12]) {
  c->schedule = *s;
  c->hash = hash_of(s);
  memcpy(c->base, base, 12);
}

// The nonce of a chunk: the base nonce XOR the index.
static void chunk_nonce(const Chunks *c, size_t i, uint8_t nonce[12]) {
  uint64_t index = c->first + i;
  memcpy(nonce, c->base, 12);
  for (int k = 0; k < 8; k++) nonce[11 - k] ^= (uint8_t)(index >> 8 * k);
}

static void one_chunk(const Chunks *c, int inverse, size_t i, Input in,
                      uint8_t *out, uint8_t *tag) {
  uint8_t nonce[12];
  chunk_nonce(c, i, nonce);
  gcm(&c->schedule, &c->hash, inverse, (Input){nonce, 12}, (Input){NULL, 0}, in,
      out, tag);
}

// Seal the chunks from `start` to `stop`.
static void seal_some(void *job, size_t start, size_t stop) {
  const Chunks *c = job;
  for (size_t i = start; i < stop; i++) {
    size_t size = smaller(CHUNK, c->plain - i * CHUNK);
    uint8_t *to = c->out + i * (CHUNK + TAG);
    one_chunk(c, 0, i, (Input){c->in + i * CHUNK, size}, to, to + size);
  }
}

// Open the chunks from `start` to `stop`, unless one was forged.
static void open_some(void *job, size_t start, size_t stop) {
  Chunks *c = job;
  for (size_t i = start; i < stop && !atomic_load(&c->forged); i++) {
    uint8_t tag[TAG];
    size_t size = smaller(CHUNK, c->plain - i * CHUNK);
    const uint8_t *from = c->in + i * (CHUNK + TAG);
    one_chunk(c, 1, i, (Input){from, size}, c->out + i * CHUNK, tag);
    if (!equal(tag, from + size, TAG)) atomic_store(&c->forged, 1);
  }
}

// Whether all chunks are authentic; if not, no plaintext is left.
static int opened(Chunks *c) {
  int forged = atomic_load(&c->forged);
  if (forged) memset(c->out, 0, c->plain);
  return !forged;
}

#endif
