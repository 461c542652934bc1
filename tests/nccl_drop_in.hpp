#pragma once

#include <string>
#include <vector>

#include "nccl_shim/abi.hpp"
#include "trial.hpp"

namespace collectives {

/// The functions of the libnccl.so.2 that was built, opened as its users open it.
const NcclFunctions& drop_in();

/// Throws Error(internal) with the library's words unless `result` is success.
void nccl_ok(NcclResult result);
/// The last error's text.
std::string nccl_words();

/// A configuration as NCCL_CONFIG_INITIALIZER makes it.
NcclConfig nccl_defaults();

/// Communicators of all ranks of this process, destroyed at the end.
class DropInRanks {
 public:
  explicit DropInRanks(int count);
  explicit DropInRanks(std::vector<NcclComm*> made) : comms(std::move(made)) {}
  ~DropInRanks();
  DropInRanks(const DropInRanks&) = delete;
  int size() const { return static_cast<int>(comms.size()); }

  std::vector<NcclComm*> comms;
};

/// NCCL's numbers for our types and operations.
int nccl_type_of(DataType type);
int nccl_op_of(ReduceOp op);

/// One rank's part of a trial through NCCL's functions, in host memory or on GPU `rank`. An exchange sends around the ring.
class DropInTrial {
 public:
  DropInTrial(const Trial& trial, int rank, int ranks, Backend backend = Backend::host);
  /// Asks for the collective, in a group of its own if it is of several calls.
  void start(NcclComm* comm);
  /// Waits for its end on a GPU; gives how many bytes are wrong.
  std::size_t wrong() const;

 private:
  std::size_t block() const { return trial_.count * size_of(trial_.type); }
  std::vector<std::byte> input_of(int rank) const;
  std::vector<std::byte> expected() const;
  std::size_t in_blocks() const;
  std::vector<std::byte> found() const;
  bool has_output() const;

  Trial trial_;
  int rank_;
  int ranks_;
  [[maybe_unused]] Backend backend_;
  std::size_t out_blocks_;
  RankMemory in_, out_;
  std::byte* from_ = nullptr;
  std::byte* to_ = nullptr;
};

}  // namespace collectives
