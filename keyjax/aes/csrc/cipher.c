// AES as custom calls of XLA on a CPU, on XLA's own memory.
//
// No handler allocates, locks, keeps state or calls Python: a signal, another
// thread or the end of the interpreter cannot change what it writes. A handler
// writes `valid` last, and only a call that returns no error has results.

#include "modes.h"
#include "xla.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#define EXPORT __attribute__((visibility("default")))
#define CHUNK ((size_t)1 << 14)
#define TAG ((size_t)16)

typedef struct {
  uint8_t *data;
  size_t size;
} Bytes;

// One index of the leading axes, which `jax.vmap` adds.
typedef struct {
  const Frame *frame;
  int64_t axes, index;
  const char *error;
} Call;

// A function that fills results; the call's error is NULL on success.
typedef void Work(Call *call);

static Input input(Bytes x) { return (Input){x.data, x.size}; }

static size_t item_size(int dtype) {
  switch (dtype) {
    case TYPE_PRED:
    case TYPE_U8: return 1;
    case TYPE_U16: return 2;
    case TYPE_U32: return 4;
    default: return 0;
  }
}

static Bytes refuse(Call *call, const char *error) {
  call->error = error;
  return (Bytes){NULL, 0};
}

// The bytes of a buffer at the call's index; axes of size 1 are not mapped.
static Bytes at(Call *call, const Buffers *buffers, int64_t i) {
  if (i >= buffers->size) return refuse(call, "a buffer is missing");
  const Buffer *b = buffers->items[i];
  const int64_t *axes = call->frame->rets.items[0]->dims;
  size_t size = item_size(b->dtype);
  if (size == 0) return refuse(call, "a buffer has another dtype");
  if (b->rank < call->axes) return refuse(call, "a buffer lacks an axis");
  for (int64_t k = call->axes; k < b->rank; k++) size *= (size_t)b->dims[k];
  size_t stride = 1, offset = 0;
  int64_t index = call->index;
  for (int64_t k = call->axes - 1; k >= 0; k--) {
    if (b->dims[k] != 1 && b->dims[k] != axes[k]) {
      return refuse(call, "a mapped axis has another size");
    }
    if (b->dims[k] != 1) offset += stride * (size_t)(index % axes[k]);
    stride *= (size_t)b->dims[k];
    index /= axes[k];
  }
  return (Bytes){(uint8_t *)b->data + offset * size, size};
}

static Bytes arg(Call *call, int64_t i) {
  return at(call, &call->frame->args, i);
}

static Bytes ret(Call *call, int64_t i) {
  return at(call, &call->frame->rets, i);
}

// Whether the call has no error and a condition on its sizes holds.
static int fits(Call *call, int condition) {
  if (call->error == NULL && !condition) call->error = "sizes do not match";
  return call->error == NULL;
}

static Schedule key_of(Call *call) {
  Bytes x = arg(call, 0);
  int rounds = (int)(x.size / 16) - 1;
  int known = x.size % 16 == 0 && (rounds == 10 || rounds == 12 || rounds == 14);
  return fits(call, known) ? schedule_of(x.data, rounds) : (Schedule){0};
}

static void fill(Call *call, int swapped) {
  Schedule s = key_of(call);
  Bytes counter = arg(call, 1), out = ret(call, 0);
  if (!fits(call, counter.size == 16 && out.size % 16 == 0)) return;
  uint8_t first[16];
  store_one(first, swap_words(repeat(counter.data)));
  ctr(&s, counter_of(first, UINT64_MAX), NULL, out.data, out.size, swapped);
}

static void fill_plain(Call *call) { fill(call, 0); }
static void fill_swapped(Call *call) { fill(call, 1); }

// Leaves XOR a keystream; each leaf starts at a new block.
static void xor_leaves(Call *call) {
  Schedule s = key_of(call);
  Bytes counter = arg(call, 1);
  int64_t leaves = call->frame->rets.size;
  if (!fits(call, counter.size == 16 && call->frame->args.size == leaves + 2)) {
    return;
  }
  uint8_t first[16];
  store_one(first, swap_words(repeat(counter.data)));
  Counter c = counter_of(first, UINT64_MAX);
  for (int64_t i = 0; i < leaves; i++) {
    Bytes in = arg(call, i + 2), out = ret(call, i);
    if (!fits(call, in.size == out.size)) return;
    c = ctr(&s, c, in.data, out.data, out.size, 0);
  }
}

static void crypt_blocks(Call *call, int inverse) {
  Schedule s = key_of(call);
  Bytes in = arg(call, 1), out = ret(call, 0);
  if (!fits(call, in.size == out.size && in.size % 16 == 0)) return;
  ecb(&s, inverse, in.data, out.data, out.size);
}

static void encrypt_blocks(Call *call) { crypt_blocks(call, 0); }
static void decrypt_blocks(Call *call) { crypt_blocks(call, 1); }

static void seal(Call *call) {
  Schedule s = key_of(call);
  Bytes nonce = arg(call, 1), in = arg(call, 2), aad = arg(call, 3);
  Bytes out = ret(call, 0), tag = ret(call, 1);
  if (!fits(call, nonce.size && in.size == out.size && tag.size == TAG)) return;
  Hash h = hash_of(&s);
  gcm(&s, &h, 0, input(nonce), input(aad), input(in), out.data, tag.data);
}

static void unseal(Call *call) {
  Schedule s = key_of(call);
  Bytes nonce = arg(call, 1), in = arg(call, 2), given = arg(call, 3);
  Bytes aad = arg(call, 4), out = ret(call, 0), valid = ret(call, 1);
  if (!fits(call, nonce.size && in.size == out.size && valid.size == 1 &&
                      given.size >= 4 && given.size <= TAG)) {
    return;
  }
  uint8_t tag[TAG];
  Hash h = hash_of(&s);
  gcm(&s, &h, 1, input(nonce), input(aad), input(in), out.data, tag);
  int authentic = equal(tag, given.data, given.size);
  if (!authentic) memset(out.data, 0, out.size);
  valid.data[0] = (uint8_t)authentic;
}

// The nonce of a chunk: the base nonce XOR the index.
static void chunk_nonce(const uint8_t base[12], uint64_t index,
                        uint8_t nonce[12]) {
  memcpy(nonce, base, 12);
  for (int i = 0; i < 8; i++) nonce[11 - i] ^= (uint8_t)(index >> 8 * i);
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

// A header and the chunks of a message (c2sp.org/chunked-encryption).
static void seal_chunks(Call *call) {
  Schedule s = key_of(call);
  Bytes base = arg(call, 1), in = arg(call, 2), header = arg(call, 3);
  Bytes out = ret(call, 0);
  size_t chunks = in.size / CHUNK + 1;
  if (!fits(call, base.size == 12 &&
                      out.size == header.size + in.size + TAG * chunks)) {
    return;
  }
  Hash h = hash_of(&s);
  memcpy(out.data, header.data, header.size);
  uint8_t *to = out.data + header.size;
  for (size_t i = 0; i < chunks; i++) {
    uint8_t nonce[12];
    size_t size = smaller(CHUNK, in.size - i * CHUNK);
    chunk_nonce(base.data, i, nonce);
    Input chunk = {in.data + i * CHUNK, size};
    gcm(&s, &h, 0, (Input){nonce, 12}, (Input){NULL, 0}, chunk, to, to + size);
    to += size + TAG;
  }
}

// The plaintext of chunks, or zeros, and whether all are authentic.
static void open_chunks(Call *call) {
  Schedule s = key_of(call);
  Bytes base = arg(call, 1), in = arg(call, 2);
  Bytes out = ret(call, 0), valid = ret(call, 1);
  size_t chunks = in.size / (CHUNK + TAG) + 1;
  if (!fits(call, base.size == 12 && valid.size == 1 &&
                      in.size == out.size + TAG * chunks)) {
    return;
  }
  Hash h = hash_of(&s);
  const uint8_t *from = in.data;
  int authentic = 1;
  for (size_t i = 0; i < chunks && authentic; i++) {
    uint8_t nonce[12], tag[TAG];
    size_t size = smaller(CHUNK, out.size - i * CHUNK);
    chunk_nonce(base.data, i, nonce);
    Input chunk = {from, size};
    gcm(&s, &h, 1, (Input){nonce, 12}, (Input){NULL, 0}, chunk,
        out.data + i * CHUNK, tag);
    authentic = equal(tag, from + size, TAG);
    from += size + TAG;
  }
  if (!authentic) memset(out.data, 0, out.size);
  valid.data[0] = (uint8_t)authentic;
}

// New memory costs more than the cipher unless it is in large pages.
static void advise(const Buffers *results) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t page = (uintptr_t)1 << 21;
  for (int64_t i = 0; i < results->size; i++) {
    const Buffer *b = results->items[i];
    size_t size = item_size(b->dtype);
    for (int64_t k = 0; k < b->rank; k++) size *= (size_t)b->dims[k];
    uintptr_t start = ((uintptr_t)b->data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)b->data + size) / page * page;
    if (end > start) madvise((void *)start, end - start, MADV_HUGEPAGE);
  }
#else
  (void)results;
#endif
}

static const char *run(const Frame *frame, Work *work) {
  if (frame->args.size < 1 || frame->rets.size < 1) return "no buffers";
  // The first argument without leading axes is the schedule, of two axes.
  Call call = {.frame = frame, .axes = frame->args.items[0]->rank - 2};
  if (call.axes < 0 || frame->rets.items[0]->rank < call.axes) {
    return "a buffer lacks an axis";
  }
  int64_t calls = 1;
  for (int64_t k = 0; k < call.axes; k++) {
    calls *= frame->rets.items[0]->dims[k];
  }
  advise(&frame->rets);
  for (; call.index < calls && call.error == NULL; call.index++) work(&call);
  return call.error;
}

static Error *handle(Frame *frame, Work *work) {
  Extension *extension = frame->extension_start;
  if (extension != NULL && extension->type == EXTENSION_METADATA) {
    extension->metadata->api_version.major_version = API_MAJOR;
    extension->metadata->api_version.minor_version = API_MINOR;
    return NULL;
  }
  if (frame->stage != STAGE_EXECUTE) return NULL;
  const char *error = run(frame, work);
  if (error == NULL) return NULL;
  ErrorArgs args = {sizeof(ErrorArgs), NULL, error, CODE_INTERNAL};
  return frame->api->error_create(&args);
}

#define HANDLER(name, work) \
  EXPORT Error *name(Frame *frame) { return handle(frame, work); }

HANDLER(keyjax_keystream, fill_plain)
HANDLER(keyjax_keystream_swapped, fill_swapped)
HANDLER(keyjax_xor, xor_leaves)
HANDLER(keyjax_ecb_encrypt, encrypt_blocks)
HANDLER(keyjax_ecb_decrypt, decrypt_blocks)
HANDLER(keyjax_gcm_seal, seal)
HANDLER(keyjax_gcm_open, unseal)
HANDLER(keyjax_chunks_seal, seal_chunks)
HANDLER(keyjax_chunks_open, open_chunks)

EXPORT int keyjax_supported(void) { return supported(); }

#if defined(__clang__)
#pragma clang attribute pop
#endif
