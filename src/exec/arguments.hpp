#pragma once

#include <optional>

#include "exec/executor.hpp"
#include "kernels/direct.hpp"
#include "kernels/program.hpp"

namespace collectives {

/// A rank's kernel arguments: what a program fixes is filled once, what a call fixes each time.
class Arguments {
 public:
  Arguments(const RankContext& context, kernels::FaultRecord* fault) : context_(&context), fault_(fault) {}

  /// The arguments of this call for the general kernels, or for the direct ones. Valid until the next.
  const kernels::ProgramArgs& program(const Call& call, const Plan& plan, const Program& program);
  const kernels::DirectArgs& direct(const Call& call, const Plan& plan, const Program& program);

 private:
  void fill_call(kernels::CallArgs& args, const Call& call, const Plan& plan, const Program& program) const;
  void fill_chunks(const Call& call, int chunks);
  void fill_lanes(std::uint32_t blocks);
  void fill_program(AlgorithmChoice choice, const Program& program);

  const RankContext* context_;
  kernels::FaultRecord* fault_;
  std::optional<AlgorithmChoice> filled_;
  kernels::ProgramArgs program_{};
  kernels::DirectArgs direct_{};
};

}  // namespace collectives
