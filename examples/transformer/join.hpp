#pragma once

#include <collectives/communicator.hpp>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "bfloat16.hpp"

namespace transformer {

/// How one rank's partial sums become everyone's total: the all-reduce that is compared.
class Join {
 public:
  virtual ~Join() = default;
  /// out = the ranks' `in`, summed. On the host backend the result is there on return.
  virtual void all_reduce(const Bf16* in, Bf16* out, std::size_t count, collectives::Stream stream) = 0;
  /// Waits until the stream is empty.
  virtual void wait(collectives::Stream stream) = 0;
  /// From any thread: lets the peers leave calls that will never be complete.
  virtual void abort() = 0;
};

/// One rank of libcollectives.
std::unique_ptr<Join> join_by(collectives::Communicator& communicator);

/// All ranks of NCCL, out of a library that is opened here. Throws Error(unsupported) where it is missing.
std::vector<std::unique_ptr<Join>> join_by_nccl(const std::string& library, const std::vector<int>& devices);

}  // namespace transformer
