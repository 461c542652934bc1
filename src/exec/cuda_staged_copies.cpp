#include "exec/cuda_staged_copies.hpp"

#include <functional>

#include "exec/cuda_copies.hpp"

namespace collectives {
namespace {

/// What walk_staged_copies says, as CUDA's streams do it.
template <typename StreamOf, typename EventOf>
class StagedEnqueuer {
 public:
  StagedEnqueuer(const kernels::CopyCallArgs& args, const StagedCall& call, DataType type, const Plan& plan, StreamOf stream_of, EventOf event_of)
      : args_(args), call_(call), type_(type), plan_(plan), stream_of_(stream_of), event_of_(event_of) {}

  void open() { kernels::launch_copy_open(args_, stream_of_(StagedLane::caller)); }
  void mark(StagedPoint point, int g, StagedLane lane) { cuda_check(cudaEventRecord(event_of_(point, g), stream_of_(lane))); }
  void follow(StagedLane lane, StagedPoint point, int g) { cuda_check(cudaStreamWaitEvent(stream_of_(lane), event_of_(point, g), 0)); }
  void copy_out(CopyGroup group, int round) { move(call_.copy_out(group, round), StagedLane::out); }
  void copy_in(CopyGroup group, int round) { move(call_.copy_in(group, round), StagedLane::in); }
  void meet(int g) { kernels::launch_copy_meet(args_, {~0u, ~0u, static_cast<std::uint32_t>(g)}, stream_of_(StagedLane::meetings)); }
  void sum(CopyGroup group) {
    const kernels::CopySumArgs args = call_.sum(group);
    if (args.count > 0) kernels::launch_copy_sum(args, type_, plan_.blocks, plan_.threads, stream_of_(StagedLane::caller));
  }

 private:
  void move(const CopySpan& span, StagedLane lane) {
    if (span.bytes > 0) cuda_check(cudaMemcpyAsync(span.to, span.from, span.bytes, cudaMemcpyDefault, stream_of_(lane)));
  }

  const kernels::CopyCallArgs& args_;
  const StagedCall& call_;
  DataType type_;
  const Plan& plan_;
  StreamOf stream_of_;
  EventOf event_of_;
};

}  // namespace

StagedStreams::StagedStreams() {
  for (auto* streams : {&eager_, &captured_})
    for (CudaStream& stream : *streams) stream = make_urgent_stream();
  for (CudaEvent& event : events_) event = make_event();
}

void StagedStreams::enqueue(const kernels::CopyCallArgs& args, const StagedCall& call, DataType type, const Plan& plan, Stream stream, bool captured) {
  const auto& own = captured ? captured_ : eager_;
  const auto stream_of = [&](StagedLane lane) { return lane == StagedLane::caller ? stream : own[static_cast<std::size_t>(lane) - 1].get(); };
  const auto event_of = [&](StagedPoint point, int g) { return events_[static_cast<std::size_t>(point) * kept + static_cast<std::size_t>(g) % kept].get(); };
  StagedEnqueuer enqueuer(args, call, type, plan, stream_of, event_of);
  walk_staged_copies(call.ranks(), call.pieces(), enqueuer);
}

}  // namespace collectives
