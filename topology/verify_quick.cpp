#include "topology/verify_quick.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "kernels/probe.hpp"

namespace collectives {
namespace {

using SteadyClock = std::chrono::steady_clock;
using kernels::ProbeVerdict;

constexpr std::uint64_t wait_ns = 400'000'000;
constexpr auto longest = std::chrono::seconds(10);
constexpr std::uint32_t most_packs = 4096;

struct Verdicts {
  std::uint32_t of[max_ranks];
};

/// What is under way for one rank.
struct Running {
  CudaStream stream;
  Pinned<Verdicts> verdicts;
};

Running start(const QuickRank& rank, kernels::ProbeExchange args, const std::optional<Injection>& injection) {
  const DeviceScope scope(rank.device);
  Running running{make_stream(), make_pinned<Verdicts>()};
  std::copy(rank.areas.begin(), rank.areas.end(), std::begin(args.areas));
  args.rank = rank.rank;
  args.peers = rank.peers;
  args.verdicts = running.verdicts->of;
  if (injection && injection->pair.from == rank.rank)
    (injection->kind == Injection::Kind::corrupt ? args.corrupt_to : args.drop_to) = injection->pair.to;
  kernels::launch_probe_exchange(args, running.stream.get());
  return running;
}

QuickResult finish(const QuickRank& rank, const Running& running, SteadyClock::time_point deadline) {
  const DeviceScope scope(rank.device);
  for (cudaError_t state = cudaErrorNotReady; state == cudaErrorNotReady;) {
    state = cudaStreamQuery(running.stream.get());
    if (state != cudaErrorNotReady) cuda_check(state);
    require(SteadyClock::now() < deadline, [&] { return fmt::format("rank {} on device {}: the proof of its links did not end", rank.rank, rank.device); },
            ErrorCode::timeout);
  }
  QuickResult result;
  for (std::uint32_t peer = 0; peer < max_ranks; ++peer) {
    if ((rank.peers >> peer & 1u) == 0) continue;
    const auto verdict = static_cast<ProbeVerdict>(running.verdicts->of[peer]);
    if (verdict == ProbeVerdict::late) result.late |= 1u << peer;
    if (verdict == ProbeVerdict::wrong || verdict == ProbeVerdict::unknown) result.wrong |= 1u << peer;
  }
  return result;
}

}  // namespace

void prepare_quick_proof(int device) {
  const DeviceScope scope(device);
  kernels::preload_probe_exchange();
}

std::vector<QuickResult> verify_quickly(const std::vector<QuickRank>& ranks, int size, std::size_t area_bytes, Mark nonce,
                                        const std::optional<Injection>& injection) {
  const std::size_t part = area_bytes / static_cast<std::size_t>(size);
  require(size >= 2 && size <= max_ranks && part >= 512, "a quick proof needs 2 to 16 ranks and 512 bytes for each");
  require(!injection || injection->kind == Injection::Kind::drop || injection->kind == Injection::Kind::corrupt, "a quick proof can drop and corrupt");
  const kernels::ProbeExchange args{.ranks = size,
                                    .packs = static_cast<std::uint32_t>(std::min<std::size_t>(most_packs, (part / 256 * 256 - 256) / sizeof(Pack))),
                                    .nonce = nonce,
                                    .deadline_ns = wait_ns};
  for (const QuickRank& rank : ranks) prepare_quick_proof(rank.device);
  std::vector<Running> running;
  for (const QuickRank& rank : ranks) running.push_back(start(rank, args, injection));
  std::vector<QuickResult> results;
  for (std::size_t i = 0; i < ranks.size(); ++i) results.push_back(finish(ranks[i], running[i], SteadyClock::now() + longest));
  return results;
}

}  // namespace collectives
