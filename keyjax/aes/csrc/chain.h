// The key schedule of AES (FIPS 197, section 5.2) that goes on past its last
// round, as Deep-Lock's keystream.

#ifndef KEYJAX_CHAIN_H_
#define KEYJAX_CHAIN_H_

#include "modes.h"

typedef struct {
  uint32_t words[8], constant;  // Big-endian words, as numbers.
  int length, used;             // Words of the key; those taken of the last.
} Chain;

// Read the key as words uint32[4] or uint32[8].
static Chain chain_of(const uint8_t *words, size_t size) {
  Chain c = {.constant = 1, .length = (int)size / 4, .used = (int)size / 4};
  memcpy(c.words, words, size);
  return c;
}

static uint32_t next_word(Chain *c) {
  if (c->used == c->length) {
    uint32_t last = c->words[c->length - 1];
    last = substitute_word(last << 8 | last >> 24) ^ c->constant << 24;
    for (int i = 0; i < c->length; i++) {
      if (c->length == 8 && i == 4) last = substitute_word(last);
      last = c->words[i] ^= last;
    }
    c->constant = (c->constant << 1) ^ (c->constant & 0x80 ? 0x11b : 0);
    c->used = 0;
  }
  return c->words[c->used++];
}

// The next words for parameters of 1, 2 or 4 bytes; the first one of a word has
// its high bits.
static void chain_words(Chain *c, size_t width, uint8_t *out, size_t words) {
  for (size_t i = 0; i < words; i++) {
    uint32_t word = next_word(c);
    if (width == 1) word = __builtin_bswap32(word);
    if (width == 2) word = word << 16 | word >> 16;
    memcpy(out + 4 * i, &word, 4);
  }
}

static void chain(Chain *c, size_t width, const uint8_t *in, uint8_t *out,
                  size_t size, Mix mix) {
  uint8_t stream[GROUP], bytes[GROUP];
  Vector x[WIDTH], data[WIDTH];
  for (size_t done = 0; done < size; done += GROUP) {
    size_t some = size - done < GROUP ? size - done : GROUP;
    memset(stream, 0, GROUP);
    memset(bytes, 0, GROUP);
    chain_words(c, width, stream, (some + 3) / 4);
    memcpy(bytes, in + done, some);
    load_group(x, stream);
    load_group(data, bytes);
    EACH(i) x[i] = mixed(mix, x[i], data[i]);
    store_group(bytes, x);
    memcpy(out + done, bytes, some);
  }
}

#endif
