// AES as custom calls of XLA on a CPU, on XLA's own memory, and as functions
// for the host.
//
// None keeps state or calls Python: a signal, another thread or the end of the
// interpreter cannot change what it writes. A handler writes `valid` last, and
// only a call that returns no error has results.

#include "chain.h"
#include "chunks.h"
#include "modes.h"
#include "threads.h"
#include "xla.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#define EXPORT __attribute__((visibility("default")))
#define STEP ((size_t)1 << 20)  // Bytes that a thread takes at once.

typedef struct {
  uint8_t *data;
  size_t size;
} Bytes;

// One index of the leading axes, which `jax.vmap` adds.
typedef struct {
  const Frame *frame;
  int64_t axes, index;
  int leaves;  // Whether buffers hold parameters of any dtype.
  const char *error;
} Call;

// A function that fills results; the call's error is NULL on success.
typedef void Work(Call *call);

static Input input(Bytes x) { return (Input){x.data, x.size}; }

static size_t item_size(int dtype) {
  switch (dtype) {
    case TYPE_PRED:
    case TYPE_S8:
    case TYPE_U8:
    case TYPE_F8E5M2:
    case TYPE_F8E4M3FN:
    case TYPE_F8E4M3B11FNUZ:
    case TYPE_F8E5M2FNUZ:
    case TYPE_F8E4M3FNUZ:
    case TYPE_F8E4M3:
    case TYPE_F8E3M4:
    case TYPE_F8E8M0FNU: return 1;
    case TYPE_U16:
    case TYPE_F16:
    case TYPE_BF16: return 2;
    case TYPE_U32:
    case TYPE_F32: return 4;
    default: return 0;
  }
}

static int is_words(int dtype) {
  return dtype == TYPE_PRED || (TYPE_U8 <= dtype && dtype <= TYPE_U32);
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
  if (size == 0 || !(call->leaves || is_words(b->dtype))) {
    return refuse(call, "a buffer has another dtype");
  }
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

// Counter mode over a buffer; `in` is NULL for the keystream alone.
typedef struct {
  const Schedule *schedule;
  Counter counter;
  const uint8_t *in;
  uint8_t *out;
  int swapped;
  Mix mix;
} Stream;

static void stream_some(void *job, size_t start, size_t stop) {
  const Stream *x = job;
  ctr(x->schedule, advanced(x->counter, start / 16),
      x->in == NULL ? NULL : x->in + start, x->out + start, stop - start,
      x->swapped, x->mix);
}

// Run counter mode from a counter; return that of the next block.
static Counter stream(Call *call, Stream x, size_t size) {
  divide(call->frame, size, STEP, stream_some, &x);
  return advanced(x.counter, (size + 15) / 16);
}

static Counter first_counter(Bytes words) {
  uint8_t first[16];
  store_one(first, swap_words(repeat(words.data)));
  return counter_of(first, UINT64_MAX);
}

static void fill(Call *call, int swapped) {
  Schedule s = key_of(call);
  Bytes counter = arg(call, 1), out = ret(call, 0);
  if (!fits(call, counter.size == 16 && out.size % 16 == 0)) return;
  Counter c = first_counter(counter);
  stream(call, (Stream){&s, c, NULL, out.data, swapped, MIX_XOR}, out.size);
}

static void fill_plain(Call *call) { fill(call, 0); }
static void fill_swapped(Call *call) { fill(call, 1); }

// Mix leaves with a keystream; each leaf starts at a new block.
static void mix_leaves(Call *call, Mix mix) {
  call->leaves = 0;
  Schedule s = key_of(call);
  Bytes counter = arg(call, 1);
  int64_t leaves = call->frame->rets.size;
  if (!fits(call, counter.size == 16 && call->frame->args.size == leaves + 2)) {
    return;
  }
  Counter c = first_counter(counter);
  call->leaves = mix != MIX_XOR;
  for (int64_t i = 0; i < leaves; i++) {
    Bytes in = arg(call, i + 2), out = ret(call, i);
    if (!fits(call, in.size == out.size)) return;
    c = stream(call, (Stream){&s, c, in.data, out.data, 0, mix}, out.size);
  }
}

static void xor_leaves(Call *call) { mix_leaves(call, MIX_XOR); }
static void lock_leaves(Call *call) { mix_leaves(call, MIX_LOCK); }
static void unlock_leaves(Call *call) { mix_leaves(call, MIX_UNLOCK); }

// Mix leaves with a key schedule that goes on; each leaf starts at a new word.
static void chain_leaves(Call *call, Mix mix) {
  call->leaves = 0;
  Bytes key = arg(call, 0);
  int64_t leaves = call->frame->rets.size;
  if (!fits(call, (key.size == 16 || key.size == 32) &&
                      call->frame->args.size == leaves + 1)) {
    return;
  }
  Chain c = chain_of(key.data, key.size);
  call->leaves = 1;
  for (int64_t i = 0; i < leaves; i++) {
    Bytes in = arg(call, i + 1), out = ret(call, i);
    if (!fits(call, in.size == out.size)) return;
    const Buffer *b = call->frame->rets.items[i];
    chain(&c, item_size(b->dtype), in.data, out.data, out.size, mix);
  }
}

static void lock_chain(Call *call) { chain_leaves(call, MIX_LOCK); }
static void unlock_chain(Call *call) { chain_leaves(call, MIX_UNLOCK); }

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

// A header and the chunks of a message.
static void seal_chunks(Call *call) {
  Schedule s = key_of(call);
  Bytes base = arg(call, 1), in = arg(call, 2), header = arg(call, 3);
  Bytes out = ret(call, 0);
  size_t chunks = in.size / CHUNK + 1;
  if (!fits(call, base.size == 12 &&
                      out.size == header.size + in.size + TAG * chunks)) {
    return;
  }
  Chunks c = {.in = in.data, .out = out.data + header.size, .plain = in.size};
  start_chunks(&c, &s, base.data);
  memcpy(out.data, header.data, header.size);
  divide(call->frame, chunks, STEP / CHUNK, seal_some, &c);
}

// The plaintext of chunks, or zeros, and whether all are authentic.
static void open_chunks(Call *call) {
  Schedule s = key_of(call);
  Bytes base = arg(call, 1), in = arg(call, 2);
  Bytes out = ret(call, 0), valid = ret(call, 1);
  size_t chunks = in.size / (CHUNK + TAG) + 1;
  // A last chunk without a whole tag would leave less than the others hold.
  if (!fits(call, base.size == 12 && valid.size == 1 &&
                      out.size / CHUNK + 1 == chunks &&
                      in.size == out.size + TAG * chunks)) {
    return;
  }
  Chunks c = {.in = in.data, .out = out.data, .plain = out.size};
  start_chunks(&c, &s, base.data);
  divide(call->frame, chunks, STEP / CHUNK, open_some, &c);
  valid.data[0] = (uint8_t)opened(&c);
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
HANDLER(keyjax_counter_lock, lock_leaves)
HANDLER(keyjax_counter_unlock, unlock_leaves)
HANDLER(keyjax_chain_lock, lock_chain)
HANDLER(keyjax_chain_unlock, unlock_chain)
HANDLER(keyjax_ecb_encrypt, encrypt_blocks)
HANDLER(keyjax_ecb_decrypt, decrypt_blocks)
HANDLER(keyjax_gcm_seal, seal)
HANDLER(keyjax_gcm_open, unseal)
HANDLER(keyjax_chunks_seal, seal_chunks)
HANDLER(keyjax_chunks_open, open_chunks)

EXPORT int keyjax_supported(void) { return supported(); }

// Do `count` chunks on the host, from `first` on, which hold `plain` bytes; the
// key has 16 or 32. Return whether sizes fit and no chunk is forged.
static int on_host(Slice *slice, const uint8_t *key, size_t key_size,
                   const uint8_t base[12], uint64_t first, size_t count,
                   const uint8_t *in, size_t plain, uint8_t *out) {
  if (key_size != 16 && key_size != 32) return 0;
  if (plain > count * CHUNK || plain + CHUNK < count * CHUNK) return 0;
  Schedule s = expanded(key, key_size);
  Chunks c = {.first = first, .in = in, .out = out, .plain = plain};
  start_chunks(&c, &s, base);
  slice(&c, 0, count);
  return opened(&c);
}

EXPORT int keyjax_seal_on_host(const uint8_t *key, size_t key_size,
                               const uint8_t base[12], uint64_t first,
                               size_t count, const uint8_t *data, size_t size,
                               uint8_t *sealed) {
  return on_host(seal_some, key, key_size, base, first, count, data, size,
                 sealed);
}

// If a chunk is forged, `data` is zeros.
EXPORT int keyjax_open_on_host(const uint8_t *key, size_t key_size,
                               const uint8_t base[12], uint64_t first,
                               size_t count, uint8_t *data, size_t size,
                               const uint8_t *sealed) {
  return on_host(open_some, key, key_size, base, first, count, sealed, size,
                 data);
}

#if defined(__clang__)
#pragma clang attribute pop
#endif
