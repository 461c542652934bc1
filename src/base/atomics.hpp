#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(__CUDA_ARCH__)
#include <ctime>
#endif

#if defined(__CUDACC__)
#define COLLECTIVES_HOST_DEVICE __host__ __device__ __forceinline__
#define COLLECTIVES_COLD __host__ __device__ __noinline__ inline
#else
#define COLLECTIVES_HOST_DEVICE inline
#define COLLECTIVES_COLD __attribute__((noinline)) inline
#endif
#if defined(__CUDA_ARCH__)
#define COLLECTIVES_UNROLL _Pragma("unroll")
#else
#define COLLECTIVES_UNROLL
#endif

// The verbs by which ranks order memory, for device threads and host threads alike: this header alone knows which of the two
// it is compiled for. Every verb that is not called local acts at system scope: the other side may be another GPU, another
// process or a CPU thread. There is no remote read-modify-write: PCIe has none.
namespace collectives {

/// 16 bytes, the unit of every transfer. Its 32-bit words are each valid on their own; the whole is not one atomic object.
struct alignas(16) Pack {
  std::uint32_t word[4];
};

/// A call's number, free-running over 2^32.
using Epoch = std::uint32_t;
/// A call's number and a tile's within it, or what that call is.
using Mark = std::uint64_t;

COLLECTIVES_HOST_DEVICE constexpr Mark mark(Epoch epoch, std::uint32_t low) { return static_cast<Mark>(epoch) << 32 | low; }

/// Has a flag come to `target`? Its writer is at most one call ahead of its reader, so anything else is old: a flag of a lane
/// that lay idle for 2^31 calls does not pass for a new one, as it would by the sign of the distance.
COLLECTIVES_HOST_DEVICE constexpr bool reached(Mark seen, Mark target) { return seen - target < Mark{2} << 32; }
static_assert(reached(mark(0, 0), mark(0xffffffffu, 7)) && !reached(mark(0xffffffffu, 7), mark(0, 0)));
static_assert(reached(mark(5, 2), mark(5, 2)) && reached(mark(6, 0), mark(5, 2)) && !reached(mark(5, 1), mark(5, 2)));
static_assert(!reached(mark(5, 0), mark(5u + 0x80000001u, 1)));

/// In a build for soaks one thread in 256, drawn anew each time, rests up to 8 us here: the verbs below may take any time. Nothing otherwise.
COLLECTIVES_HOST_DEVICE void rest_before([[maybe_unused]] const void* place) {
#if defined(__CUDA_ARCH__) && defined(COLLECTIVES_STALLS)
  std::uint32_t clock;
  asm volatile("mov.u32 %0, %%clock;" : "=r"(clock));
  std::uint32_t random = (clock ^ static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(place) >> 2) * 0x9e3779b9u) * 0x7feb352du;
  random = (random ^ random >> 15) * 0x846ca68bu;
  if ((random >> 8 & 255u) == 0) asm volatile("nanosleep.u32 %0;" ::"r"(random >> 16 & 4095u));
#endif
}

/// Publishes everything this thread wrote or saw before it (other threads' writes too, if a block barrier came between).
COLLECTIVES_HOST_DEVICE void signal(Mark* flag, Mark value) {
  rest_before(flag);
#if defined(__CUDA_ARCH__)
  asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(flag), "l"(value) : "memory");
#else
  __atomic_store_n(flag, value, __ATOMIC_RELEASE);
#endif
}

/// Sees everything that was published with the value it returns.
COLLECTIVES_HOST_DEVICE Mark observe(const Mark* flag) {
  rest_before(flag);
#if defined(__CUDA_ARCH__)
  Mark value;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(flag) : "memory");
  return value;
#else
  return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
#endif
}

/// Orders nothing but itself: for words whose value is the whole message.
COLLECTIVES_HOST_DEVICE void signal_relaxed(Mark* flag, Mark value) {
  rest_before(flag);
#if defined(__CUDA_ARCH__)
  asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(flag), "l"(value) : "memory");
#else
  __atomic_store_n(flag, value, __ATOMIC_RELAXED);
#endif
}

COLLECTIVES_HOST_DEVICE Mark observe_relaxed(const Mark* flag) {
  rest_before(flag);
#if defined(__CUDA_ARCH__)
  Mark value;
  asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(flag) : "memory");
  return value;
#else
  return __atomic_load_n(flag, __ATOMIC_RELAXED);
#endif
}

COLLECTIVES_HOST_DEVICE std::uint32_t observe_relaxed(const std::uint32_t* word) {
  rest_before(word);
#if defined(__CUDA_ARCH__)
  std::uint32_t value;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
#else
  return __atomic_load_n(word, __ATOMIC_RELAXED);
#endif
}

COLLECTIVES_HOST_DEVICE void signal_relaxed(std::uint32_t* word, std::uint32_t value) {
  rest_before(word);
#if defined(__CUDA_ARCH__)
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
#else
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
#endif
}

/// The same with release, for a record whose last word says that the others are filled.
COLLECTIVES_HOST_DEVICE void signal(std::uint32_t* word, std::uint32_t value) {
  rest_before(word);
#if defined(__CUDA_ARCH__)
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
#else
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
#endif
}

/// A pack in memory that another rank polls or overwrites. Orders nothing.
COLLECTIVES_HOST_DEVICE void store_shared(Pack* pack, const Pack& value) {
  rest_before(pack);
#if defined(__CUDA_ARCH__)
  asm volatile("st.relaxed.sys.global.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(pack), "r"(value.word[0]), "r"(value.word[1]), "r"(value.word[2]),
               "r"(value.word[3])
               : "memory");
#else
  for (int i = 0; i < 4; ++i) __atomic_store_n(&pack->word[i], value.word[i], __ATOMIC_RELAXED);
#endif
}

COLLECTIVES_HOST_DEVICE Pack load_shared(const Pack* pack) {
  rest_before(pack);
  Pack value;
#if defined(__CUDA_ARCH__)
  asm volatile("ld.relaxed.sys.global.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.word[0]), "=r"(value.word[1]), "=r"(value.word[2]), "=r"(value.word[3])
               : "l"(pack)
               : "memory");
#else
  for (int i = 0; i < 4; ++i) value.word[i] = __atomic_load_n(&pack->word[i], __ATOMIC_RELAXED);
#endif
  return value;
}

/// Adds to a counter of this rank's own. Orders nothing: it tells what was read before, and a fence here would wait for all that the
/// thread has sent to peers. Nor does it wait: nobody is told what the counter held.
COLLECTIVES_HOST_DEVICE void add_local(Mark* counter, Mark value) {
#if defined(__CUDA_ARCH__)
  asm volatile("red.add.relaxed.gpu.global.u64 [%0], %1;" ::"l"(counter), "l"(value) : "memory");
#else
  __atomic_fetch_add(counter, value, __ATOMIC_RELAXED);
#endif
}

/// Is this the first claim on a word of this rank's own?
COLLECTIVES_HOST_DEVICE bool claim_local(std::uint32_t* word) {
#if defined(__CUDA_ARCH__)
  std::uint32_t before;
  asm volatile("atom.exch.acq_rel.gpu.global.b32 %0, [%1], 1;" : "=r"(before) : "l"(word) : "memory");
  return before == 0;
#else
  return __atomic_exchange_n(word, 1u, __ATOMIC_ACQ_REL) == 0;
#endif
}

/// A clock for deadlines, the same for all threads of a rank.
COLLECTIVES_HOST_DEVICE std::uint64_t now_ns() {
#if defined(__CUDA_ARCH__)
  std::uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
#else
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
#endif
}

}  // namespace collectives
