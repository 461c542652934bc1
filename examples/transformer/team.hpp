#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block.hpp"

namespace transformer {

/// What every stage of every layer held: trace[layer][stage], row by row.
using Trace = std::vector<std::array<std::vector<Bf16>, stage_count>>;

/// All ranks of one block, in this process: an engine and a thread each while there is work.
class Team {
 public:
  struct Setting {
    Shape shape;
    Limits limits;
    int ranks = 1;
    int gpus = 0;     ///< 0: CPU ranks; ranks beyond the GPUs share them
    int context = 0;  ///< cached positions before a decode step
    std::uint64_t seed = 0;
    Fault fault = Fault::none;
  };
  enum class Joining { ours, nccl, none };

  explicit Team(const Setting& setting);

  int ranks() const { return setting_.ranks; }
  const Setting& setting() const { return setting_; }
  Block& block(int rank) { return blocks_.at(static_cast<std::size_t>(rank)); }
  Engine& engine(int rank) { return *engines_.at(static_cast<std::size_t>(rank)); }

  /// One forward pass by libcollectives, every rank's stages.
  std::vector<Trace> record(const Batch& batch);

  /// Is the output of a captured step, on every rank, that of the passes before it, bit for bit?
  bool replays_alike(const Batch& batch, const std::vector<Trace>& traces);

  /// Milliseconds of a captured step on the slowest rank: the median of five rounds of `repeats`.
  double time_step(const Batch& batch, Joining joining, int repeats);

  /// Opens NCCL for time_step. Throws Error(unsupported) where it is missing.
  void open_nccl(const std::string& library);

  /// Does libcollectives add the ranks' shares of such a batch with one rounding, whoever the rank?
  bool adds_at_once(const Batch& batch) const;

 private:
  /// Runs `work` in a thread a rank. After an error all ranks' calls are aborted, and the first error is thrown.
  void each(const std::function<void(int rank)>& work);
  /// Every rank's step, to be run by its own thread.
  std::vector<std::function<void()>> capture(const Batch& batch, Joining joining);
  Join* join(int rank, Joining joining);
  void meet(int rank);
  void wait(int rank, Joining joining);

  Setting setting_;
  std::vector<std::unique_ptr<Engine>> engines_;
  std::vector<Block> blocks_;
  std::vector<collectives::Communicator> communicators_;  ///< none for one rank
  std::vector<std::unique_ptr<Join>> ours_, nccl_;
};

}  // namespace transformer
