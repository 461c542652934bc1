#pragma once

#include <collectives/communicator.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ranks.hpp"
#include "trial.hpp"

// Communicators of host ranks, made in every way that there is, and what their ranks may say of themselves.
namespace collectives {

inline void expect_that(bool holds, const std::string& what) {
  if (!holds) throw Error(ErrorCode::internal, what);
}

/// The same number on every rank?
inline bool agrees(Communicator& communicator, std::uint64_t number) {
  std::uint64_t least = number, most = number;
  communicator.all_reduce({&least, 1, DataType::uint64}, {&least, 1, DataType::uint64}, ReduceOp::min);
  communicator.all_reduce({&most, 1, DataType::uint64}, {&most, 1, DataType::uint64}, ReduceOp::max);
  communicator.synchronize();
  return least == number && most == number;
}

/// A hang shows after 20 s, and the epoch turns over after 256 calls.
inline Options of_host_ranks() {
  Options options;
  options.backend = Backend::host;
  options.pool_bytes = std::size_t{256} << 20;
  options.timeout_ms = 20'000;
  options.first_epoch = 0xffffff00u;
  return options;
}

/// The same on GPUs: 10 s, 16 calls.
inline Options of_gpu_ranks() {
  Options options;
  options.backend = Backend::cuda;
  options.timeout_ms = 10'000;
  options.first_epoch = 0xfffffff0u;
  return options;
}

enum class MadeAs { threads_of_one, threads_by_id, processes };

/// ThreadSanitizer sees what threads share alone.
#if defined(__SANITIZE_THREAD__)
inline std::vector<MadeAs> all_ways() { return {MadeAs::threads_by_id}; }
#else
inline std::vector<MadeAs> all_ways() { return {MadeAs::threads_of_one, MadeAs::threads_by_id, MadeAs::processes}; }
#endif

inline std::vector<std::string> run_everywhere(MadeAs kind, int ranks, const Options& options, const std::function<void(Communicator&)>& body) {
  std::vector<Communicator> local;
  if (kind == MadeAs::threads_of_one) local = Communicator::create_local(counted(ranks), options);
  const UniqueId id = make_unique_id();
  return run_ranks(kind == MadeAs::processes ? RanksAre::processes : RanksAre::threads, ranks, [&](int rank) {
    std::optional<Communicator> own;
    if (local.empty()) own = Communicator::create(id, rank, ranks, options);
    body(own ? *own : local[static_cast<std::size_t>(rank)]);
  });
}

/// What `run_everywhere` gives if no rank has anything to say.
inline std::vector<std::string> all_well(int ranks) { return std::vector<std::string>(static_cast<std::size_t>(ranks), "ok"); }

}  // namespace collectives
