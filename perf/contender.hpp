#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "perf/collective.hpp"
#include "perf/team.hpp"

namespace perf {

/// Bytes before and after every buffer that nobody may write.
inline constexpr std::size_t guard_bytes = 256;

/// One rank's input and output, each `capacity` bytes with guards around them.
struct RankBuffers {
  std::byte* in = nullptr;
  std::byte* out = nullptr;
};

/// Who is measured, for the ranks of one worker: this library or another one, behind the same calls.
class Contender {
 public:
  virtual ~Contender() = default;
  virtual std::string name() const = 0;

  /// What this worker's communicators took to come about.
  double creation_ms() const { return creation_ms_; }

  const RankBuffers& buffers(int local) const { return buffers_.at(static_cast<std::size_t>(local)); }

  /// Enclose one call of all local ranks.
  virtual void begin_call() {}
  virtual void end_call() {}
  virtual void enqueue(int local, const Call& call) = 0;

  /// Until a rank's queue is empty. Throws what went wrong.
  virtual void wait(int local) = 0;

  /// Are results exact for this operation, so that they can be checked?
  virtual bool exact(collectives::ReduceOp) const { return true; }

 protected:
  std::vector<RankBuffers> buffers_;
  double creation_ms_ = 0;
};

/// This library, with `capacity` bytes a buffer. All workers make theirs.
std::unique_ptr<Contender> make_ours(Worker& worker, const Collective& collective, std::size_t capacity);

/// NCCL on the buffers of `ours`, or, if `symmetric`, on buffers of its own that are registered as symmetric windows. All
/// workers make theirs, in the same order. Throws Error(unsupported) if the library cannot.
std::unique_ptr<Contender> make_nccl(Worker& worker, const Collective& collective, const Contender& ours, std::size_t capacity,
                                     bool symmetric);

/// The version of the NCCL that is compared with.
std::string compared_nccl_version(const Settings& settings);

}  // namespace perf
