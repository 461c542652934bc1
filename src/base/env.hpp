#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace collectives {

enum class LogLevel : int { off, error, warn, info, trace };

/// `COLLECTIVES_P2P`: use peer access where it is (auto), everywhere or not at all (required), nowhere (off), or where it is but for
/// these unordered pairs of ranks, of which some read each other's memory where the others do without.
struct PeerPolicy {
  PeerMode mode = PeerMode::automatic;
  std::vector<std::pair<int, int>> refused{};
  std::vector<std::pair<int, int>> pulled{};

  bool refuses(int a, int b) const;
  bool pulls(int a, int b) const;
};

/// What libnccl.so.2 says at the end of a process: nothing, its calls, or those of each rank.
enum class CallSummary : int { none, process, ranks };

/// Every environment variable of this library, parsed. Unset variables leave the default.
struct Environment {
  LogLevel log = LogLevel::warn;               ///< COLLECTIVES_LOG
  std::string machine_file;                    ///< COLLECTIVES_MACHINE; empty: detect
  std::optional<std::size_t> pool_bytes;       ///< COLLECTIVES_POOL_BYTES, with K, M or G
  std::string algorithm;                       ///< COLLECTIVES_ALGORITHM; empty: the planner's choice
  PeerPolicy p2p;                              ///< COLLECTIVES_P2P
  std::uint32_t timeout_ms = 300'000;          ///< COLLECTIVES_TIMEOUT_MS
  std::string nccl_fallback;                   ///< COLLECTIVES_NCCL_FALLBACK; empty: the next in the loader's search order
  bool disable = false;                        ///< COLLECTIVES_DISABLE
  bool programmatic_launch = false;            ///< COLLECTIVES_PROGRAMMATIC_LAUNCH
  CallSummary summary = CallSummary::none;     ///< COLLECTIVES_SUMMARY
  bool tuned = true;                           ///< COLLECTIVES_TUNED
};

/// Reads the variables anew. Throws Error(invalid_argument) that names the variable, its value and what is allowed.
Environment read_environment();

/// Where a private directory of run-time files may be made, best first: $XDG_RUNTIME_DIR, $TMPDIR, /tmp. Absolute paths;
/// whether they can be used is for the caller to find out.
std::vector<std::string> runtime_directories();

/// Where this user's cached files of this library go: collectives/ below $XDG_CACHE_HOME, else below .cache in $HOME. Nothing if
/// neither is an absolute path.
std::optional<std::string> cache_directory();

/// How many processes a launcher started in all and on this host, as torchrun, Open MPI and Slurm say it: 0 where none does.
struct Launch {
  int processes = 0;
  int on_this_host = 0;
};
Launch read_launch();

/// CUDA_VISIBLE_DEVICES, for a report; empty if not set.
std::string cuda_visible_devices();

/// A byte count such as 4096, 64K, 1.5M or 2G (binary units). Throws Error(invalid_argument) naming `what`.
std::size_t parse_bytes(std::string_view text, std::string_view what);

}  // namespace collectives
