#pragma once

#include <chrono>
#include <collectives/communicator.hpp>
#include <collectives/topology.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace collectives {

/// The ways in which a GPU uses another's memory, each of which may be broken alone: stores and loads of its multiprocessors,
/// its copy engine, and a flag released by the kernel that stored the data before it.
enum class Method : std::uint8_t { store, load, copy_engine, flag };
inline constexpr int method_count = 4;

constexpr const char* name_of(Method method) {
  constexpr const char* names[] = {"store", "load", "copy_engine", "flag"};
  const int index = static_cast<int>(method);
  return index < method_count ? names[index] : "unknown";
}

/// What moving data showed. `hang`: nothing came before the deadline, or the process that tried had to be killed. `refused`: CUDA
/// did not let it try. `inconclusive`: something else failed, and says nothing of the link.
enum class Verdict : std::uint8_t { ok, wrong_data, hang, refused, inconclusive };
inline constexpr int verdict_count = 5;

constexpr const char* name_of(Verdict verdict) {
  constexpr const char* names[] = {"ok", "wrong_data", "hang", "refused", "inconclusive"};
  const int index = static_cast<int>(verdict);
  return index < verdict_count ? names[index] : "unknown";
}

/// A directed pair of GPUs, by CUDA ordinal: `from` stores to, loads from or copies to the memory of `to`.
struct DevicePair {
  int from = 0;
  int to = 0;
  auto operator<=>(const DevicePair&) const = default;
};

struct LinkVerdict {
  DevicePair pair;
  Method method = Method::store;
  Verdict verdict = Verdict::inconclusive;
  std::int64_t first_bad_offset = -1;  ///< of wrong data: bytes from the beginning of the buffer
  double gb_per_s = 0;                 ///< 0: not measured
  double latency_us = 0;               ///< one way of a flag; 0: not measured
  std::string reason;                  ///< what was seen, in words, unless it is ok
  bool operator==(const LinkVerdict&) const = default;
};

/// Two flows at once that may share something on their way, both of stores or both of loads.
struct FlowVerdict {
  DevicePair first, second;
  Method method = Method::store;
  double gb_per_s = 0;   ///< of both together
  double predicted = 0;  ///< by fair shares of what the graph says they share
  bool collapsed = false;  ///< under half of the prediction
  bool operator==(const FlowVerdict&) const = default;
};

struct Verification {
  std::vector<LinkVerdict> links;
  std::vector<FlowVerdict> flows;
  bool operator==(const Verification&) const = default;

  /// The entry for this pair and method, or null.
  COLLECTIVES_EXPORT const LinkVerdict* find(DevicePair pair, Method method) const;
};

/// A fault put into one link on purpose, so that it can be seen that faults are found. `drop`: nothing arrives. `delay`: data come
/// after their flag. `corrupt`: one bit is wrong. `hang`: the process that tries never comes back.
struct Injection {
  enum class Kind : std::uint8_t { drop, delay, corrupt, hang };
  Kind kind = Kind::drop;
  DevicePair pair;
};
/// `drop:0-1` and the like. Throws Error(invalid_argument) that says what is allowed.
COLLECTIVES_EXPORT Injection parse_injection(const std::string& text);

struct VerifyOptions {
  /// The command that becomes the child process which touches the links: its main calls `serve_probe`.
  std::vector<std::string> prober;
  std::optional<Injection> injection;
  std::chrono::milliseconds start_timeout{20'000};  ///< for CUDA to come up in the child
  std::chrono::milliseconds step_timeout{2'000};    ///< for one step, then the child is killed
  /// For ranks to meet and for one of their all-reduces, then the child is killed. The ranks give up after a third of it.
  std::chrono::milliseconds all_reduce_timeout{15'000};
  bool flows = true;                                ///< pairs of flows, too
};

class ProbeChild;

/// A small all-reduce of integers whose sum is known, on communicators of its own.
struct AllReduceCheck {
  std::size_t bytes = 0;
  bool right = false;
  std::size_t wrong_elements = 0;
  double us = 0;       ///< of the second call, on the host's clock
  std::string plan;    ///< the algorithm
  std::string error;   ///< what was thrown, if anything
  bool timed_out = false;
  bool operator==(const AllReduceCheck&) const = default;
};

/// What a part of a verification took, of the caller's time.
struct StageTime {
  std::string stage;
  double ms = 0;
};

/// Moves data over links in child processes, so that a link that hangs costs a child. The first one starts at once: CUDA takes seconds
/// to come up in it, in which the caller can look at the machine.
class COLLECTIVES_EXPORT LinkVerifier {
 public:
  /// Throws Error(system) where no child can be started.
  explicit LinkVerifier(VerifyOptions options);
  /// Waits for the child to leave.
  ~LinkVerifier();
  LinkVerifier(const LinkVerifier&) = delete;
  LinkVerifier& operator=(const LinkVerifier&) = delete;

  /// Once: every peer link that `machine` claims, by every method, checked where the data arrive; then rates, latencies and pairs of
  /// flows.
  Verification verify(const Machine& machine);

  /// The function of this name, on GPUs, in the child: one check a size. A child in which a link failed does no more; another
  /// takes its place. Where it hangs or dies, that is the `error` of a size, and those after it are not tried.
  std::vector<AllReduceCheck> check_all_reduce(const std::vector<int>& devices, bool through_host, const std::vector<std::size_t>& bytes);

  /// Lets the child go without waiting, which takes it a second. For a process that is about to end: nobody waits for the child.
  void abandon();

  /// In the order in which they came.
  const std::vector<StageTime>& times() const { return times_; }

 private:
  VerifyOptions options_;
  std::unique_ptr<ProbeChild> child_;
  bool in_doubt_ = false;  ///< a link failed in this child
  std::vector<StageTime> times_;
};

/// The same where there is nothing else to do meanwhile.
COLLECTIVES_EXPORT Verification verify_machine(const Machine& machine, const VerifyOptions& options);

/// Writes verdicts into the peers: rates, latencies and evidence of what works; a link whose stores or flags fail loses its access
/// with the reason, and its ranks meet in host memory. Broken loads alone leave a link that is only pushed over.
COLLECTIVES_EXPORT void apply(Machine& machine, const Verification& verification);

/// What an earlier verification of this very machine found: same driver, firmware, PCI tree and GPUs, at most 30 days old.
COLLECTIVES_EXPORT std::optional<Verification> cached_verification(const Machine& machine);
/// Keeps it in the user's cache directory. False, with a line in the log, if that cannot be written.
COLLECTIVES_EXPORT bool cache_verification(const Machine& machine, const Verification& verification);

/// The child's side: reads steps from `in` to its end and reports on `out`, both file descriptors. Returns the exit status.
COLLECTIVES_EXPORT int serve_probe(int in, int out);

/// What surrounds this process and decides what it can do with GPUs.
struct Surroundings {
  int cuda_runtime = 0;         ///< as CUDA writes it, 13000 for 13.0; 0 without the CUDA backend
  int cuda_driver = 0;          ///< the newest runtime that the driver serves; 0 without a driver
  std::string why_no_gpu;       ///< CUDA's words, empty if it sees one
  std::string visible_devices;  ///< CUDA_VISIBLE_DEVICES, empty if not set
  bool container = false;
  std::optional<std::uint64_t> lockable_bytes;  ///< of memory, by this process; nothing: any
  std::uint64_t shm_bytes = 0;                  ///< of /dev/shm
};
COLLECTIVES_EXPORT Surroundings look_around();

/// One check a size, on the ranks that `create_local(devices, options)` makes. Throws nothing for what the ranks find wrong.
COLLECTIVES_EXPORT std::vector<AllReduceCheck> check_all_reduce(const std::vector<int>& devices, const Options& options, const std::vector<std::size_t>& bytes);

}  // namespace collectives
