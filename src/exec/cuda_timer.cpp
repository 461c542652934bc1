#include <algorithm>
#include <cmath>

#include "base/cuda.hpp"
#include "exec/timer.hpp"
#include "memory/rollback.hpp"

namespace collectives {
namespace {

struct TimerWords {
  std::uint64_t word[2];
};

struct DeviceFree {
  void operator()(std::byte* memory) const { (void)cudaFree(memory); }
};
struct GraphDestroy {
  void operator()(CUgraph_st* graph) const { (void)cudaGraphDestroy(graph); }
  void operator()(CUgraphExec_st* graph) const { (void)cudaGraphExecDestroy(graph); }
};

CudaEvent make_timed_event() {
  cudaEvent_t event = nullptr;
  cuda_check(cudaEventCreate(&event));
  return CudaEvent(event);
}

class CudaTimer final : public Timer {
 public:
  /// The device is current.
  CudaTimer(Executor& executor, int device, std::size_t bytes)
      : executor_(executor), device_(device), stream_(make_stream()), begin_(make_timed_event()), end_(make_timed_event()), words_(make_pinned<TimerWords>()) {
    void* memory = nullptr;
    cuda_check(cudaMalloc(&memory, bytes));
    memory_.reset(static_cast<std::byte*>(memory));
    cuda_check(cudaMemsetAsync(memory, 0, bytes, stream_.get()));
  }

  Stream stream() const override { return stream_.get(); }
  std::byte* memory() const override { return memory_.get(); }
  std::uint64_t* words() const override { return words_->word; }

  std::uint64_t time(int calls, int samples, const std::function<void()>& meet, const std::function<void()>& call) override {
    const DeviceScope scope(device_);
    const auto graph = capture(calls, call);
    std::vector<std::uint64_t> taken;
    for (int sample = 0; sample < samples; ++sample) {
      meet();
      cuda_check(cudaEventRecord(begin_.get(), stream_.get()));
      cuda_check(cudaGraphLaunch(graph.get(), stream_.get()));
      cuda_check(cudaEventRecord(end_.get(), stream_.get()));
      executor_.synchronize(stream_.get());
      if (const auto fault = executor_.fault(false)) throw *fault;
      float ms = 0;
      cuda_check(cudaEventElapsedTime(&ms, begin_.get(), end_.get()));
      taken.push_back(static_cast<std::uint64_t>(std::llround(static_cast<double>(ms) * 1e6 / calls)));
    }
    const auto middle = taken.begin() + samples / 2;
    std::nth_element(taken.begin(), middle, taken.end());
    return *middle;
  }

 private:
  /// Relaxed: other threads of this process may allocate meanwhile.
  std::unique_ptr<CUgraphExec_st, GraphDestroy> capture(int calls, const std::function<void()>& call) {
    cuda_check(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeRelaxed));
    std::unique_ptr<CUgraph_st, GraphDestroy> graph;
    const auto end = [&] {
      cudaGraph_t captured = nullptr;
      const cudaError_t result = cudaStreamEndCapture(stream_.get(), &captured);
      graph.reset(captured);
      return result;
    };
    Rollback failed([&] { (void)end(); });
    for (int i = 0; i < calls; ++i) call();
    failed.dismiss();
    cuda_check(end());
    cudaGraphExec_t made = nullptr;
    cuda_check(cudaGraphInstantiate(&made, graph.get(), 0));
    std::unique_ptr<CUgraphExec_st, GraphDestroy> runnable(made);
    cuda_check(cudaGraphUpload(made, stream_.get()));
    return runnable;
  }

  Executor& executor_;
  int device_;
  CudaStream stream_;
  CudaEvent begin_, end_;
  Pinned<TimerWords> words_;
  std::unique_ptr<std::byte, DeviceFree> memory_;
};

}  // namespace

std::unique_ptr<Timer> make_cuda_timer(Executor& executor, int device, std::size_t bytes) {
  const DeviceScope scope(device);
  return std::make_unique<CudaTimer>(executor, device, bytes);
}

}  // namespace collectives
