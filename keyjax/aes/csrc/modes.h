// Counter mode (SP 800-38A), ECB and GCM (SP 800-38D) of any length.
//
// GHASH multiplies bit-reflected polynomials: Gueron and Kounavis, "Intel
// Carry-Less Multiplication Instruction and its Usage for Computing the GCM
// Mode", 2014. Powers of the hash key are divided by x beforehand, which
// replaces the shift of each product, and a group shares one reduction.

#ifndef KEYJAX_MODES_H_
#define KEYJAX_MODES_H_

#include "block.h"

typedef struct {
  uint64_t high, low;
  uint64_t mask;  // Bits of `low` that count: 32 in GCM, else all.
} Counter;

static inline void store_big(uint8_t *p, uint64_t x) {
  x = __builtin_bswap64(x);
  memcpy(p, &x, 8);
}

static inline uint64_t load_big(const uint8_t *p) {
  uint64_t x;
  memcpy(&x, p, 8);
  return __builtin_bswap64(x);
}

static inline Counter counter_of(const uint8_t block[16], uint64_t mask) {
  return (Counter){load_big(block), load_big(block + 8), mask};
}

static inline Counter advanced(Counter c, uint64_t n) {
  uint64_t low = c.low + n;
  if (c.mask == UINT64_MAX) c.high += low < n;
  c.low = (c.low & ~c.mask) | (low & c.mask);
  return c;
}

// The next group of the keystream.
static inline void next_group(const Schedule *s, Counter *c, Vector *x) {
  if ((c->low & c->mask) <= c->mask - BLOCKS) {
    Vector first = pair(c->low, c->high);
    EACH(i) x[i] = reverse(add64(first, numbers(i)));
  } else {  // A counter in the group wraps around.
    uint8_t bytes[GROUP];
    for (int i = 0; i < BLOCKS; i++) {
      Counter one = advanced(*c, (uint64_t)i);
      store_big(bytes + 16 * i, one.high);
      store_big(bytes + 16 * i + 8, one.low);
    }
    load_group(x, bytes);
  }
  run_rounds(s->keys, s->rounds, 0, x);
  *c = advanced(*c, BLOCKS);
}

// What a keystream does to data: XOR alone, or as Deep-Lock the S-box of the
// XOR, and back.
typedef enum { MIX_XOR, MIX_LOCK, MIX_UNLOCK } Mix;

static inline Vector mixed(Mix mix, Vector stream, Vector data) {
  if (mix == MIX_LOCK) return substituted(xor2(stream, data));
  if (mix == MIX_UNLOCK) data = inverse_substituted(data);
  return xor2(stream, data);
}

// XOR less than a group.
static void xor_rest(const Vector *stream, const uint8_t *in, uint8_t *out,
                     size_t size) {
  uint8_t bytes[GROUP];
  store_group(bytes, stream);
  for (size_t i = 0; i < size; i++) {
    out[i] = bytes[i] ^ in[i];
  }
}

// Mix with the keystream from any counter, or write it if `in` is NULL, as
// big-endian words if `swapped`; return the counter of the next block.
static Counter ctr(const Schedule *s, Counter c, const uint8_t *in,
                   uint8_t *out, size_t size, int swapped, Mix mix) {
  Vector x[WIDTH], data[WIDTH];
  size_t done = 0;
  for (; size - done >= GROUP; done += GROUP) {
    next_group(s, &c, x);
    if (in != NULL) {
      load_group(data, in + done);
      EACH(i) x[i] = mixed(mix, x[i], data[i]);
    }
    if (swapped) EACH(i) x[i] = swap_words(x[i]);
    store_group(out + done, x);
  }
  if (size == done) return c;
  Counter next = advanced(c, (size - done + 15) / 16);
  next_group(s, &c, x);
  uint8_t bytes[GROUP] = {0};
  if (in != NULL) {
    memcpy(bytes, in + done, size - done);
    load_group(data, bytes);
    EACH(i) x[i] = mixed(mix, x[i], data[i]);
  }
  if (swapped) EACH(i) x[i] = swap_words(x[i]);
  store_group(bytes, x);
  memcpy(out + done, bytes, size - done);
  return next;
}

static void ecb(const Schedule *s, int inverse, const uint8_t *in, uint8_t *out,
                size_t size) {
  Schedule keys = inverse ? inverse_keys(s) : *s;
  Vector x[WIDTH];
  size_t done = 0;
  for (; size - done >= GROUP; done += GROUP) {
    load_group(x, in + done);
    run_rounds(keys.keys, keys.rounds, inverse, x);
    store_group(out + done, x);
  }
  if (size == done) return;
  uint8_t bytes[GROUP] = {0};
  memcpy(bytes, in + done, size - done);
  load_group(x, bytes);
  run_rounds(keys.keys, keys.rounds, inverse, x);
  store_group(bytes, x);
  memcpy(out + done, bytes, size - done);
}

static void encrypt_one(const Schedule *s, const uint8_t in[16],
                        uint8_t out[16]) {
  ecb(s, 0, in, out, 16);
}

typedef struct {
  Vector powers[WIDTH];  // x^-1 H^BLOCKS ... x^-1 H, of reversed bytes.
  Vector sum;            // Reversed bytes, in every lane.
} Hash;

typedef struct {
  Vector low, mixed, high;
} Product;

static inline void add_product(Product *p, Vector a, Vector b) {
  p->low = xor2(p->low, multiply_low(a, b));
  p->mixed = xor2(p->mixed, multiply_mixed(a, b));
  p->high = xor2(p->high, multiply_high(a, b));
}

// Lane by lane.
static inline Vector reduced(Product p) {
  Vector poly = pair(0xc200000000000000, 0);
  Vector mixed = xor2(
      p.mixed, xor2(swap_halves(p.low), multiply_low(poly, p.low)));
  return xor2(p.high, xor2(swap_halves(mixed), multiply_low(poly, mixed)));
}

static Hash hash_of(const Schedule *s) {
  uint8_t key[16] = {0}, powers[GROUP];
  encrypt_one(s, key, key);
  uint64_t high = load_big(key), low = load_big(key + 8);
  uint64_t carry = 0 - (high >> 63);
  Vector first = pair(low << 1 | (carry & 1),
                      (high << 1 | low >> 63) ^ (carry & 0xc200000000000000));
  Vector power = first, zero = pair(0, 0);
  for (int i = BLOCKS - 1; i >= 0; i--) {
    store_one(powers + 16 * i, power);
    Product next = {zero, zero, zero};
    add_product(&next, power, first);
    power = reduced(next);
  }
  Hash h = {.sum = zero};
  load_group(h.powers, powers);
  return h;
}

// Hash a group of blocks.
static inline void hash_group(Hash *h, const Vector *x) {
  Vector zero = pair(0, 0);
  Product p = {zero, zero, zero};
  add_product(&p, xor2(reverse(x[0]), h->sum), h->powers[0]);
  EACH(i) if (i > 0) add_product(&p, reverse(x[i]), h->powers[i]);
  Product sum = {folded(p.low), folded(p.mixed), folded(p.high)};
  h->sum = reduced(sum);
}

// Hash bytes, padded with zeros to whole blocks.
static void hash_bytes(Hash *h, const uint8_t *in, size_t size) {
  Vector x[WIDTH];
  size_t done = 0;
  for (; size - done >= GROUP; done += GROUP) {
    load_group(x, in + done);
    hash_group(h, x);
  }
  if (size == done) return;
  // Blocks of zeros before the rest add nothing if the sum is added after them.
  uint8_t bytes[GROUP] = {0}, sum[16];
  size_t start = GROUP - (size - done + 15) / 16 * 16;
  memcpy(bytes + start, in + done, size - done);
  store_one(sum, reverse(h->sum));
  for (int i = 0; i < 16; i++) bytes[start + i] ^= sum[i];
  h->sum = pair(0, 0);
  load_group(x, bytes);
  hash_group(h, x);
}

// Hash two sizes in bits and write the digest.
static void finish(Hash *h, uint64_t first, uint64_t second, uint8_t out[16]) {
  store_big(out, 8 * first);
  store_big(out + 8, 8 * second);
  hash_bytes(h, out, 16);
  store_one(out, reverse(h->sum));
}

typedef struct {
  const uint8_t *data;
  size_t size;
} Input;

// Encrypt, or decrypt if `inverse`, and write the tag of the ciphertext.
static void gcm(const Schedule *s, const Hash *key, int inverse, Input nonce,
                Input aad, Input in, uint8_t *out, uint8_t tag[16]) {
  uint8_t first[16] = {[15] = 1}, mask[16];
  Hash h = *key;
  if (nonce.size == 12) {
    memcpy(first, nonce.data, 12);
  } else {
    hash_bytes(&h, nonce.data, nonce.size);
    finish(&h, 0, nonce.size, first);
    h.sum = key->sum;
  }
  Counter c = advanced(counter_of(first, UINT32_MAX), 1);
  Vector x[WIDTH], data[WIDTH], last[WIDTH];
  size_t done = 0;
  hash_bytes(&h, aad.data, aad.size);
  for (; in.size - done >= GROUP; done += GROUP) {
    next_group(s, &c, x);
    // One group late, so that the processor hashes while it encrypts the next.
    if (done > 0) hash_group(&h, last);
    load_group(data, in.data + done);
    EACH(i) x[i] = xor2(x[i], data[i]);
    store_group(out + done, x);
    EACH(i) last[i] = inverse ? data[i] : x[i];
  }
  if (done > 0) hash_group(&h, last);
  if (in.size > done) {
    size_t rest = in.size - done;
    if (inverse) hash_bytes(&h, in.data + done, rest);
    next_group(s, &c, x);
    xor_rest(x, in.data + done, out + done, rest);
    if (!inverse) hash_bytes(&h, out + done, rest);
  }
  finish(&h, aad.size, in.size, tag);
  encrypt_one(s, first, mask);
  for (int i = 0; i < 16; i++) tag[i] ^= mask[i];
}

// In a time that does not depend on the bytes.
static int equal(const uint8_t *a, const uint8_t *b, size_t size) {
  volatile uint8_t differ = 0;
  for (size_t i = 0; i < size; i++) differ |= a[i] ^ b[i];
  return differ == 0;
}

#endif
