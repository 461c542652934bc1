#include <fmt/format.h>
#include <unistd.h>

#include "base/cuda.hpp"
#include "base/require.hpp"
#include "exec/arguments.hpp"
#include "exec/cuda_copies.hpp"
#include "exec/cuda_staged_copies.hpp"
#include "exec/executor.hpp"
#include "exec/identity.hpp"
#include "kernels/local.hpp"

namespace collectives {
namespace {

/// The capture a stream is in: 0 for none.
unsigned long long capture_of(Stream stream) {
  cudaStreamCaptureStatus status{};
  unsigned long long id = 0;
  cuda_check(cudaStreamGetCaptureInfo(stream, &status, &id));
  require(status != cudaStreamCaptureStatusInvalidated, "the stream's capture was invalidated by an earlier error: end it first", ErrorCode::invalid_usage);
  return status == cudaStreamCaptureStatusActive ? id : 0;
}

/// An event and the stream it was last recorded on.
struct LastCall {
  CudaEvent event;
  Stream stream = nullptr;
  unsigned long long capture = 0;
  bool recorded = false;
};

/// What the device and the host write for each other, in pinned memory.
struct Mailbox {
  kernels::FaultRecord record;
  Mark poison;
};

class CudaExecutor final : public Executor {
 public:
  explicit CudaExecutor(RankContext context)
      : Executor(std::move(context)), scope_(std::in_place, context_.device), mailbox_(make_pinned<Mailbox>()), arguments_(context_, &mailbox_->record) {
    kernels::preload_sentinel();
    kernels::preload_flagged();
    kernels::preload_crews();
    kernels::preload_direct(context_.ranks);
    kernels::preload_reduce(context_.ranks);
    kernels::preload_move(context_.ranks);
    kernels::preload_local();
    context_.early_launch = context_.early_launch && kernels::can_begin_early();
    kernels::preload_mail();
    if (context_.layout.copy_bytes > 0) {
      kernels::preload_copy();
      context_.out_of_reach == 0 ? static_cast<void>(copies_.emplace()) : static_cast<void>(staged_.emplace());
    }
    eager_.event = make_event();
    captured_.event = make_event();
    messages_ = make_stream();
    scope_.reset();
  }

  ~CudaExecutor() override {
    // The kernels under way end by themselves, at the latest when their deadline passes.
    while (eager_.recorded && cudaEventQuery(eager_.event.get()) == cudaErrorNotReady) {
      abandon_if_lost();
      ::usleep(20);
    }
    (void)cudaStreamSynchronize(messages_.get());
    (void)cudaGetLastError();
  }

  void check_buffer(const void* data, std::size_t bytes, const char* name) const override {
    if (bytes == 0) return;
    cudaPointerAttributes attributes{};
    cuda_check(cudaPointerGetAttributes(&attributes, data));
    // Pinned memory belongs to no device, where kernels have the host's address for it.
    const bool pinned = attributes.type == cudaMemoryTypeHost && attributes.devicePointer == data;
    const bool anywhere = pinned || attributes.type == cudaMemoryTypeManaged;
    require(anywhere || attributes.type == cudaMemoryTypeDevice, [&] {
      return fmt::format("{} is {}: expected memory of CUDA device {}", name, data == nullptr ? "null" : "host memory", context_.device);
    });
    require(anywhere || attributes.device == context_.device, [&] {
      return fmt::format("{} is on CUDA device {}: expected device {}, this rank's", name, attributes.device, context_.device);
    });
  }

  void enqueue(const Call& call, const Plan& plan, const Program& program, Stream stream) override {
    in_order(stream, [&] {
      if (call.absent) {
        const ElementBits element = identity_of(call.type, call.carried, call.op);
        kernels::launch_local_fill(call.out, call.count, element.bits, element.size, stream);
      }
      launch(call, plan, program, stream);
    });
  }

  void enqueue(const Mail& mail, Stream stream) override {
    const kernels::MailArgs args = mail_args(context_, mail, &mailbox_->record);
    in_order(stream, [&] {
      for (const OwnMessage& message : mail.own) cuda_check(cudaMemcpyAsync(message.out, message.in, message.bytes, cudaMemcpyDefault, stream));
      if (args.blocks > 0) kernels::launch_mail(args, stream);
    });
  }

  void reroute(std::uint32_t out_of_reach, const std::array<std::byte*, max_ranks>& common) override { turn_calls_to(out_of_reach, common); }

  void reroute_mail(int peer, bool sends, const std::array<std::byte*, max_ranks>& common, Stream stream) override {
    if (!turn_mail_to(peer, sends, common)) return;
    const DeviceScope scope(context_.device);
    // A graph would do it again with every replay. Without it the first send of each lane waits until its receive has begun.
    if (!is_usable(stream) || capture_of(stream) != 0) return;
    const NewWay way = new_way_to(context_, peer);
    auto* upper = reinterpret_cast<std::uint32_t*>(way.credits) + 1;  // of each mark: the number of the tile
    in_order(stream, [&] {
      cuda_check(cudaMemcpy2DAsync(upper, sizeof(Mark), way.sent, sizeof *way.sent, sizeof *way.sent, kernels::max_mail_lanes, cudaMemcpyDefault, stream));
    });
  }

  void synchronize(Stream stream) override {
    const DeviceScope scope(context_.device);
    require(capture_of(stream) == 0, "synchronize on a stream that is being captured: end the capture first", ErrorCode::invalid_usage);
    wait_for([&] { return cudaStreamQuery(stream); });
  }

  void finish() override {
    // Behind its last call's event are all before it, and the stream may be gone.
    if (eager_.recorded) wait_for([&] { return cudaEventQuery(eager_.event.get()); });
  }

  void abort(bool tell) override {
    __atomic_store_n(&mailbox_->record.abort, 1u, __ATOMIC_RELAXED);
    if (!tell) return;
    const DeviceScope scope(context_.device);
    mailbox_->poison = kernels::poison(kernels::FaultKind::aborted, static_cast<std::uint32_t>(context_.rank), static_cast<std::uint32_t>(context_.rank));
    for (Mark* ear : ears()) cuda_check(cudaMemcpyAsync(ear, &mailbox_->poison, sizeof(Mark), cudaMemcpyDefault, messages_.get()));
  }

 protected:
  kernels::FaultRecord& record() override { return mailbox_->record; }

 private:
  template <typename Query>
  void wait_for(Query query) {
    const std::uint64_t began = now_ns();
    for (;;) {
      const cudaError_t state = query();
      if (state != cudaErrorNotReady) {
        cuda_check(state);
        return;
      }
      (void)cudaGetLastError();
      // Short waits are worth a busy core; a long one looks after the peers instead.
      if (now_ns() - began < 200'000) continue;
      abandon_if_lost();
      ::usleep(50);
    }
  }

  bool is_usable(Stream stream) const { return !context_.shares_device || (stream != nullptr && stream != cudaStreamLegacy); }

  /// Behind the communicator's last call, on whatever stream that was.
  template <typename Body>
  void in_order(Stream stream, Body body) {
    require(is_usable(stream),
            "the default stream of a GPU that ranks share would run one rank's call after the other's, which wait for each other: give each rank a stream",
            ErrorCode::invalid_usage);
    const DeviceScope scope(context_.device);
    const auto capture = capture_of(stream);
    LastCall& last = capture != 0 ? captured_ : eager_;
    // What was enqueued in another capture, or outside of any, is ordered by the stream that replays the graph.
    if (last.recorded && last.stream != stream && last.capture == capture) cuda_check(cudaStreamWaitEvent(stream, last.event.get(), 0));
    body();
    cuda_check(cudaEventRecord(last.event.get(), stream));
    last.stream = stream;
    last.capture = capture;
    last.recorded = true;
  }

  void launch(const Call& call, const Plan& plan, const Program& program, Stream stream) {
    if (plan.copies && context_.out_of_reach != 0) {
      ensure(staged_.has_value(), "a plan wants copy engines that there are no slots for");
      return staged_->enqueue(arguments_.copies(call, plan), StagedCall(context_, call, plan, program), call.type, plan, stream, capture_of(stream) != 0);
    }
    if (plan.copies) {
      ensure(copies_.has_value(), "a plan wants copy engines that there are no slots for");
      return copies_->enqueue(arguments_.copies(call, plan), CopyCall(context_, call, plan, program), call.type, plan, stream, capture_of(stream) != 0);
    }
    if (!plan.direct) {
      const auto general = plan.wire == Wire::sentinel ? kernels::launch_sentinel : plan.crews > 1 ? kernels::launch_crews : kernels::launch_flagged;
      return general(arguments_.program(call, plan, program), call.type, plan.blocks, plan.threads, stream);
    }
    if (plan.wire == Wire::escaped && reduces(call.collective)) return kernels::launch_reduce(arguments_.reduce(call, plan, program), plan.blocks, plan.threads, stream);
    if (plan.wire == Wire::escaped) return kernels::launch_move(arguments_.move(call, plan, program), plan.blocks, plan.threads, stream);
    ensure(kernels::has_direct(call.type, call.op, context_.ranks), "a plan wants a direct kernel that there is not");
    // A reduce-scatter is the first half of the two-shot all-reduce.
    const bool one_shot = plan.choice.algorithm == Algorithm::one_shot && call.collective == Collective::all_reduce;
    const auto direct = one_shot ? kernels::launch_one_shot : kernels::launch_two_shot;
    direct(arguments_.direct(call, plan, program), call.type, plan.blocks, plan.threads, stream);
  }

  std::optional<DeviceScope> scope_;  // for the members that are made on the device; empty once they are
  Pinned<Mailbox> mailbox_;
  Arguments arguments_;
  LastCall eager_;
  LastCall captured_;
  CudaStream messages_;
  std::optional<CopyStreams> copies_;
  std::optional<StagedStreams> staged_;
};

}  // namespace

std::unique_ptr<Executor> make_cuda_executor(RankContext context) { return std::make_unique<CudaExecutor>(std::move(context)); }

}  // namespace collectives
