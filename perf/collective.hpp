#pragma once

#include <collectives/communicator.hpp>

#include "perf/nccl_api.hpp"

namespace perf {

/// One rank's call.
struct Call {
  collectives::ConstBuffer in;
  collectives::Buffer out;
  collectives::ReduceOp op = collectives::ReduceOp::sum;
  collectives::Stream stream = nullptr;
  std::size_t count = 0;  ///< of the message, or of a rank's block
  int root = 0;
  int rank = 0;
  int ranks = 0;
};

/// What the sweep must know of a collective: the row that a new perf binary adds.
struct Collective {
  const char* name;
  collectives::Collective kind;
  /// Bus bandwidth over algorithm bandwidth.
  double (*bus_factor)(int ranks);
  void (*enqueue)(collectives::Communicator& communicator, const Call& call);
  int (*enqueue_nccl)(const NcclApi& nccl, NcclComm comm, const Call& call);
};

/// Parses the command line, forms the ranks, sweeps, and returns the exit status: 0, 1 if an element is wrong, 2 for a wrong
/// command line, 3 if anything failed.
int perf_main(int argc, const char* const* argv, const Collective& collective);

}  // namespace perf
