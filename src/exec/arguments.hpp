#pragma once

#include <array>

#include "exec/executor.hpp"
#include "kernels/copy.hpp"
#include "kernels/direct.hpp"
#include "kernels/program.hpp"

namespace collectives {

/// A rank's kernel arguments: what a program fixes is filled once, what a call fixes each time.
class Arguments {
 public:
  Arguments(const RankContext& context, kernels::FaultRecord* fault) : context_(&context), fault_(fault) {}

  /// The arguments of this call for the general kernels, for the direct ones, or for those beside copy engines. Valid until the next.
  const kernels::ProgramArgs& program(const Call& call, const Plan& plan, const Program& program);
  const kernels::DirectArgs& direct(const Call& call, const Plan& plan, const Program& program);
  const kernels::ReduceArgs& reduce(const Call& call, const Plan& plan, const Program& program);
  const kernels::MoveArgs& move(const Call& call, const Plan& plan, const Program& program);
  const kernels::CopyCallArgs& copies(const Call& call, const Plan& plan);

 private:
  void fill_ranks(kernels::CallArgs& args, const Call& call, const Plan& plan) const;
  void fill_call(kernels::CallArgs& args, const Call& call, const Plan& plan, const Program& program, std::size_t longest) const;
  void fill_program(const Program& program);
  void fill_regions(const Call& call, const Plan& plan, const Program& program);
  void fill_direct(kernels::DirectArgs& args, const Call& call, const Plan& plan, const Program& program) const;
  void fill_chunks(kernels::DirectArgs& args, const Call& call, std::uint32_t chunks) const;
  void fill_parts(const Call& call, const Program& program);
  void fill_places(kernels::DirectPlaces& args, std::size_t lane_packs, int lanes_before) const;

  const RankContext* context_;
  kernels::FaultRecord* fault_;
  const Program* filled_ = nullptr;
  std::array<std::uint8_t, kernels::max_regions> chunks_{};  ///< by region, of the program that is filled in
  int regions_ = 0;
  kernels::ProgramArgs program_{};
  kernels::DirectArgs direct_{};
  kernels::ReduceArgs reduce_{};
  kernels::MoveArgs move_{};
  kernels::CopyCallArgs copies_{};
};

}  // namespace collectives
