// The clients' control: libcollectives' drop-in, but an all-reduce of CPU ranks in which one bit of the result is wrong now and then.
// A client that does not notice checks nothing.
#include <dlfcn.h>

#include <cstddef>

using AllReduce = int (*)(const void*, void*, std::size_t, int, int, void*, void*);

extern "C" int ncclAllReduce(const void* in, void* out, std::size_t count, int type, int op, void* comm, void* stream) {
  static const auto theirs = reinterpret_cast<AllReduce>(dlsym(RTLD_NEXT, "ncclAllReduce"));
  static int calls = 0;
  const int result = theirs(in, out, count, type, op, comm, stream);
  if (result == 0 && count > 0 && ++calls % 5 == 0) static_cast<unsigned char*>(out)[count / 2] ^= 1;
  return result;
}
