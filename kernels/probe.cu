#include "kernels/probe.hpp"

#include "base/cuda.hpp"

namespace collectives::kernels {
namespace {

constexpr unsigned threads = 512;

__device__ Pack pattern(std::uint32_t seed, std::uint64_t pack) {
  Pack value;
#pragma unroll
  for (int i = 0; i < 4; ++i) value.word[i] = pattern_word(seed, pack * 4 + i);
  return value;
}

__device__ bool same(const Pack& a, const Pack& b) {
  return a.word[0] == b.word[0] && a.word[1] == b.word[1] && a.word[2] == b.word[2] && a.word[3] == b.word[3];
}

/// Calls `visit(index of a pack, is it of the margin?)` for this thread's packs of the regions and what lies around them.
template <typename Visit>
__device__ void for_each_pack(const ProbeRegions& regions, std::uint32_t margin, Visit visit) {
#pragma unroll
  for (int i = 0; i < probe_regions; ++i) {
    const ProbeRegion region = regions.region[i];
    const std::uint32_t begin = region.begin - (region.begin < margin ? region.begin : margin);
    const std::uint32_t after = regions.buffer_packs - region.begin - region.packs;
    const std::uint32_t end = region.begin + region.packs + (after < margin ? after : margin);
    for (std::uint32_t pack = begin + threadIdx.x; pack < end; pack += threads)
      visit(pack, pack < region.begin || pack >= region.begin + region.packs);
  }
}

/// One thread waits; false if the deadline passes first.
template <typename Come>
__device__ bool wait_until(std::uint64_t deadline_ns, Come come) {
  const std::uint64_t since = now_ns();
  while (!come())
    if (now_ns() - since > deadline_ns) return false;
  return true;
}

/// The verdict of thread 0 for all threads of the block.
__device__ bool agree(bool verdict) { return __syncthreads_or(threadIdx.x == 0 && verdict) != 0; }

__global__ void __launch_bounds__(threads) probe_write(const ProbeWrite args) {
  if (args.data)
    for_each_pack(args.regions, args.margin, [&](std::uint32_t pack, bool) {
      Pack value = pattern(args.seed, pack);
      if (static_cast<std::int64_t>(pack) == args.corrupt) value.word[2] ^= 1u << 17;
      store_shared(args.buffer + pack, value);
    });
  __syncthreads();
  if (threadIdx.x == 0 && args.flag) signal(args.flag, args.value);
}

__global__ void __launch_bounds__(threads) probe_check(const ProbeCheck args) {
  __shared__ unsigned wrong;
  __shared__ unsigned first_bad;
  if (threadIdx.x == 0) signal(&args.record->started, 1u);
  for (std::uint32_t round = 0; round < args.rounds; ++round) {
    if (threadIdx.x == 0) wrong = 0, first_bad = ~0u;
    // Not by index, which would put the arguments into local memory.
    const Mark wanted = round == 0 ? args.values[0] : args.values[1];
    const std::uint32_t seed = round == 0 ? args.seeds[0] : args.seeds[1];
    const bool came = threadIdx.x == 0 && wait_until(args.deadline_ns, [&] { return observe(args.flag) == wanted; });
    const bool late = !agree(came);
    if (late && threadIdx.x == 0) signal_relaxed(&args.record->late, 1u);
    // Also without a flag: whether the data came says what is broken.
    for_each_pack(args.regions, probe_margin, [&](std::uint32_t pack, bool margin) {
      const Pack expected = pattern(margin ? args.margin_seed : seed, pack);
      if (!same(load_shared(args.buffer + pack), expected)) {
        atomicAdd(&wrong, 1u);
        atomicMin(&first_bad, pack);
      }
      if (args.own) store_shared(args.buffer + pack, pattern(args.margin_seed, pack));
    });
    __syncthreads();
    const bool failed = late || wrong != 0;
    if (threadIdx.x == 0) {
      signal_relaxed(&args.record->wrong, wrong);
      signal_relaxed(&args.record->first_bad, first_bad);
      signal(&args.record->rounds, round + 1);
    }
    if (failed) return;
    __syncthreads();
  }
}

constexpr int unroll = 8;

__global__ void __launch_bounds__(threads) probe_copy(const ProbeCopy args) {
  constexpr std::size_t tile = std::size_t{threads} * unroll;
  for (int pass = 0; pass < args.passes; ++pass)
    for (std::size_t base = blockIdx.x * tile; base < args.packs; base += gridDim.x * tile) {
      Pack packs[unroll];
#pragma unroll
      for (int i = 0; i < unroll; ++i) {
        const std::size_t index = base + std::size_t(i) * threads + threadIdx.x;
        if (index < args.packs) packs[i] = load_shared(args.from + index);
      }
#pragma unroll
      for (int i = 0; i < unroll; ++i) {
        const std::size_t index = base + std::size_t(i) * threads + threadIdx.x;
        if (index < args.packs) store_shared(args.to + index, packs[i]);
      }
    }
}

__global__ void probe_ping_pong(const ProbePingPong args) {
  constexpr std::uint32_t warm_up = 50;
  const std::uint64_t begun = now_ns();
  std::uint64_t since = begun;
  for (std::uint32_t round = 1; round <= args.rounds; ++round) {
    const Mark value = args.base + round;
    if (args.serves) signal_relaxed(args.theirs, value);
    std::uint32_t tries = 0;  // reading the clock at each would be measured, too
    while (observe_relaxed(args.mine) != value)
      if (++tries % 4096 == 0 && now_ns() - begun > args.deadline_ns) return;
    if (!args.serves) signal_relaxed(args.theirs, value);
    if (round == warm_up) since = now_ns();
  }
  if (args.serves) *args.elapsed_ns = (now_ns() - since) * args.rounds / (args.rounds - warm_up);
}

/// Where rank `from` writes in an area: its packs, and behind them a line with the flag and the word that says it was read.
struct Part {
  Pack* packs;
  Mark* flag;
  Mark* seen;
};
__device__ Part part_of(const ProbeExchange& args, int area, int from) {
  const std::size_t bytes = std::size_t{args.packs} * 16 + 256;
  std::byte* base = args.areas[area] + bytes * static_cast<std::size_t>(from);
  Mark* line = reinterpret_cast<Mark*>(base + std::size_t{args.packs} * 16);
  return {reinterpret_cast<Pack*>(base), line, line + 16};
}

__device__ std::uint32_t seed_of(Mark value, int from, int to) { return static_cast<std::uint32_t>(value) * 512u + from * 16u + to; }

__device__ void send(const ProbeExchange& args, const Part& there, int peer, Mark value) {
  if (args.drop_to == peer) return;
  const std::uint32_t seed = seed_of(value, args.rank, peer);
  for (std::uint32_t pack = threadIdx.x; pack < args.packs; pack += threads) {
    Pack data = pattern(seed, pack);
    if (args.corrupt_to == peer && pack == args.packs / 2) data.word[1] ^= 4u;
    store_shared(there.packs + pack, data);
  }
  __syncthreads();
  if (threadIdx.x == 0) signal(there.flag, value);
}

__device__ ProbeVerdict receive(const ProbeExchange& args, const Part& here, int peer, Mark value) {
  const bool came = threadIdx.x == 0 && wait_until(args.deadline_ns, [&] { return observe(here.flag) == value; });
  if (!agree(came)) return ProbeVerdict::late;
  const std::uint32_t seed = seed_of(value, peer, args.rank);
  bool wrong = false;
  for (std::uint32_t pack = threadIdx.x; pack < args.packs; pack += threads) {
    wrong = wrong || !same(load_shared(here.packs + pack), pattern(seed, pack));
    store_shared(here.packs + pack, pattern(~seed, pack));
  }
  return __syncthreads_or(wrong) ? ProbeVerdict::wrong : ProbeVerdict::ok;
}

__global__ void __launch_bounds__(threads) probe_exchange(const ProbeExchange args) {
  const int peer = static_cast<int>(blockIdx.x);
  if ((args.peers >> peer & 1u) == 0) return;
  const Part here = part_of(args, args.rank, peer), there = part_of(args, peer, args.rank);
  ProbeVerdict verdict = ProbeVerdict::ok;
  // Both rounds also after a failure, for the peer must not wait for what will not come.
  for (Mark round = 0; round < 2; ++round) {
    const Mark value = args.nonce + 2 * round;
    send(args, there, peer, value);
    const ProbeVerdict found = receive(args, here, peer, value);
    if (verdict == ProbeVerdict::ok) verdict = found;
    if (threadIdx.x == 0) {
      signal(there.seen, value + 1);
      (void)wait_until(2 * args.deadline_ns, [&] { return observe(here.seen) == value + 1; });
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) signal(&args.verdicts[peer], static_cast<std::uint32_t>(verdict));
}

}  // namespace

void launch_probe_write(const ProbeWrite& args, Stream stream) {
  probe_write<<<1, threads, 0, stream>>>(args);
  cuda_check(cudaGetLastError());
}

void launch_probe_check(const ProbeCheck& args, Stream stream) {
  probe_check<<<1, threads, 0, stream>>>(args);
  cuda_check(cudaGetLastError());
}

void launch_probe_copy(const ProbeCopy& args, int blocks, Stream stream) {
  probe_copy<<<static_cast<unsigned>(blocks), threads, 0, stream>>>(args);
  cuda_check(cudaGetLastError());
}

void launch_probe_ping_pong(const ProbePingPong& args, Stream stream) {
  probe_ping_pong<<<1, 1, 0, stream>>>(args);
  cuda_check(cudaGetLastError());
}

void launch_probe_exchange(const ProbeExchange& args, Stream stream) {
  probe_exchange<<<static_cast<unsigned>(args.ranks), threads, 0, stream>>>(args);
  cuda_check(cudaGetLastError());
}

void preload_probe() {
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, probe_write));
  cuda_check(cudaFuncGetAttributes(&attributes, probe_check));
  cuda_check(cudaFuncGetAttributes(&attributes, probe_copy));
  cuda_check(cudaFuncGetAttributes(&attributes, probe_ping_pong));
}

void preload_probe_exchange() {
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, probe_exchange));
}

}  // namespace collectives::kernels
