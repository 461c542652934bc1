#include "exec/cuda_copies.hpp"

namespace collectives {
namespace {

struct Events {
  cudaEvent_t between;
  std::array<cudaEvent_t, kernels::copy_buffers> consumed;
};

/// What walk_copies says, as CUDA's streams do it.
class CopyEnqueuer {
 public:
  CopyEnqueuer(const kernels::CopyCallArgs& args, const CopyCall& call, DataType type, const Plan& plan, const Events& events, Stream caller, Stream copying)
      : args_(args), call_(call), type_(type), plan_(plan), events_(events), caller_(caller), copying_(copying) {}

  void open() { kernels::launch_copy_open(args_, caller_); }
  void fork() { order(caller_, copying_, events_.between); }
  void join() { order(copying_, caller_, events_.between); }
  void consumed(int g) { cuda_check(cudaEventRecord(event_of(g), caller_)); }
  void follow(int g) { cuda_check(cudaStreamWaitEvent(copying_, event_of(g), 0)); }

  void copy(int g, CopyGroup group, int round) { move(call_.copy(g, group, round), copying_); }
  void take(int g, CopyGroup group, int round) { move(call_.take(g, group, round), caller_); }
  void sum(int g, CopyGroup group) {
    const kernels::CopySumArgs args = call_.sum(g, group);
    if (args.count > 0) kernels::launch_copy_sum(args, type_, plan_.blocks, plan_.threads, caller_);
  }

  void meet(int g) { meet({~0u, ~0u, static_cast<std::uint32_t>(g)}, copying_); }
  void tell(int g, int round) { meet({1u << call_.peer(round), 0, static_cast<std::uint32_t>(g)}, copying_); }
  void await(int g, int round) { meet({0, 1u << call_.sender(round), static_cast<std::uint32_t>(g)}, caller_); }

 private:
  void meet(const kernels::CopyMeeting& meeting, Stream stream) { kernels::launch_copy_meet(args_, meeting, stream); }
  cudaEvent_t event_of(int g) const { return events_.consumed[static_cast<std::size_t>(g) % events_.consumed.size()]; }

  static void order(Stream first, Stream then, cudaEvent_t event) {
    cuda_check(cudaEventRecord(event, first));
    cuda_check(cudaStreamWaitEvent(then, event, 0));
  }
  static void move(const CopySpan& span, Stream stream) {
    if (span.bytes > 0) cuda_check(cudaMemcpyAsync(span.to, span.from, span.bytes, cudaMemcpyDefault, stream));
  }

  const kernels::CopyCallArgs& args_;
  const CopyCall& call_;
  DataType type_;
  const Plan& plan_;
  const Events& events_;
  Stream caller_, copying_;
};

}  // namespace

CudaStream make_urgent_stream() {
  int least = 0, greatest = 0;
  cuda_check(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest));
  return CudaStream(stream);
}

CopyStreams::CopyStreams() : eager_(make_urgent_stream()), captured_(make_urgent_stream()), between_(make_event()) {
  for (CudaEvent& event : consumed_) event = make_event();
}

void CopyStreams::enqueue(const kernels::CopyCallArgs& args, const CopyCall& call, DataType type, const Plan& plan, Stream stream, bool captured) {
  Events events{between_.get(), {}};
  for (std::size_t e = 0; e < consumed_.size(); ++e) events.consumed[e] = consumed_[e].get();
  CopyEnqueuer enqueuer(args, call, type, plan, events, stream, (captured ? captured_ : eager_).get());
  walk_copies(call.ranks(), call.pieces(), enqueuer);
}

}  // namespace collectives
