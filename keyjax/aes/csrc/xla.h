// The part of XLA's foreign function interface that the handlers use, version
// 0.3 of xla/ffi/api/c_api.h (OpenXLA). XLA keeps this binary interface stable
// and refuses handlers of a version that it does not support. A test compares
// every offset with the header that jaxlib ships.

#ifndef KEYJAX_XLA_H_
#define KEYJAX_XLA_H_

#include <stddef.h>
#include <stdint.h>

enum { API_MAJOR = 0, API_MINOR = 3 };
enum { EXTENSION_METADATA = 1, STAGE_EXECUTE = 3, CODE_INTERNAL = 13 };
enum { TYPE_PRED = 1, TYPE_S8 = 2, TYPE_U8 = 6, TYPE_U16 = 7, TYPE_U32 = 8 };
enum { TYPE_F16 = 10, TYPE_F32 = 11, TYPE_BF16 = 16 };
enum {
  TYPE_F8E5M2 = 19,
  TYPE_F8E4M3FN = 20,
  TYPE_F8E4M3B11FNUZ = 23,
  TYPE_F8E5M2FNUZ = 24,
  TYPE_F8E4M3FNUZ = 25,
  TYPE_F8E4M3 = 28,
  TYPE_F8E3M4 = 29,
  TYPE_F8E8M0FNU = 33
};

typedef struct {
  size_t struct_size;
  void *extension_start;
  int major_version;
  int minor_version;
} Version;

typedef struct {
  size_t struct_size;
  Version api_version;
} Metadata;

typedef struct {
  size_t struct_size;
  int type;
  void *next;
  Metadata *metadata;  // If the type is EXTENSION_METADATA.
} Extension;

typedef struct {
  size_t struct_size;
  void *extension_start;
  const char *message;
  int code;
} ErrorArgs;

typedef struct Error Error;

typedef struct {
  size_t struct_size;
  void *extension_start;
  Error *error;
} ErrorDestroyArgs;

typedef struct {
  size_t struct_size;
  void *extension_start;
  void *context;
  int64_t *threads;
} PoolSizeArgs;

typedef struct {
  size_t struct_size;
  void *extension_start;
  void *context;
  void (*task)(void *data);
  void *data;
} PoolArgs;

typedef struct {
  size_t struct_size;
  void *extension_start;
  Version api_version;
  void *internal_api;
  Error *(*error_create)(ErrorArgs *);
  void *error_get_message;
  void (*error_destroy)(ErrorDestroyArgs *);
  void *others[8];
  Error *(*pool_schedule)(PoolArgs *);
  Error *(*pool_size)(PoolSizeArgs *);
} Api;

typedef struct {
  size_t struct_size;
  void *extension_start;
  int dtype;
  void *data;
  int64_t rank;
  int64_t *dims;
} Buffer;

typedef struct {
  size_t struct_size;
  void *extension_start;
  int64_t size;
  int *types;
  Buffer **items;
} Buffers;

typedef struct {
  size_t struct_size;
  Extension *extension_start;
  const Api *api;
  void *context;
  int stage;
  Buffers args;
  Buffers rets;
} Frame;

#endif
