// Work that XLA's own threads share.
//
// The caller takes slices too, and waits only for slices that a thread has
// begun: a pool of one thread, or one that is busy, cannot hold a call up.

#ifndef KEYJAX_THREADS_H_
#define KEYJAX_THREADS_H_

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "xla.h"

// Does the part of a job from `start` to `stop`.
typedef void Slice(void *job, size_t start, size_t stop);

typedef struct {
  atomic_size_t next, done;
  atomic_int users;  // A thread may come late: the last one frees.
  size_t total, step;
  Slice *slice;
  void *job;
} Shared;

static void work(Shared *shared) {
  for (;;) {
    size_t start = atomic_fetch_add(&shared->next, shared->step);
    if (start >= shared->total) return;
    size_t left = shared->total - start;
    size_t size = left < shared->step ? left : shared->step;
    shared->slice(shared->job, start, start + size);
    atomic_fetch_add(&shared->done, size);
  }
}

static void leave(Shared *shared) {
  if (atomic_fetch_sub(&shared->users, 1) == 1) free(shared);
}

static void help(void *shared) {
  work(shared);
  leave(shared);
}

static void forget(const Frame *frame, Error *error) {
  ErrorDestroyArgs args = {sizeof(args), NULL, error};
  frame->api->error_destroy(&args);
}

static int64_t pool_size(const Frame *frame) {
  if (frame->api->struct_size < sizeof(Api)) return 1;
  int64_t threads = 1;
  PoolSizeArgs args = {sizeof(args), NULL, frame->context, &threads};
  Error *error = frame->api->pool_size(&args);
  if (error == NULL) return threads;
  forget(frame, error);
  return 1;
}

// Do a job in slices of `step`, on the caller and on threads of XLA.
static void divide(const Frame *frame, size_t total, size_t step, Slice *slice,
                   void *job) {
  size_t slices = total / step;
  size_t threads = slices > 1 ? (size_t)pool_size(frame) : 1;
  Shared *shared = threads > 1 ? malloc(sizeof(Shared)) : NULL;
  if (shared == NULL) {
    slice(job, 0, total);
    return;
  }
  int helpers = (int)(threads < slices ? threads : slices) - 1;
  *shared = (Shared){.total = total, .step = step, .slice = slice, .job = job};
  atomic_init(&shared->next, 0);
  atomic_init(&shared->done, 0);
  atomic_init(&shared->users, helpers + 1);
  for (int i = 0; i < helpers; i++) {
    PoolArgs args = {sizeof(args), NULL, frame->context, help, shared};
    Error *error = frame->api->pool_schedule(&args);
    if (error == NULL) continue;
    forget(frame, error);
    leave(shared);
  }
  work(shared);
  while (atomic_load(&shared->done) < total) sched_yield();
  leave(shared);
}

#endif
