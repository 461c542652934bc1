#include <fmt/format.h>

#include <collectives/error.hpp>
#include <optional>
#include <vector>

#include "perf/cuda_checked.hpp"
#include "perf/data_cuda.hpp"
#include "perf/place.hpp"

namespace perf {
namespace {

constexpr double check_deadline_s = 300;

class CudaPlace final : public Place {
 public:
  CudaPlace(int device, bool null_stream, bool urgent) : device_(device) {
    make_current();
    if (!null_stream) own_stream_.emplace(urgent);
    begin_.emplace();
    end_.emplace();
    checked(cudaMalloc(reinterpret_cast<void**>(&total_), sizeof(*total_)));
  }

  ~CudaPlace() override {
    cudaSetDevice(device_);
    forget_graphs();
    cudaFree(total_);
  }

  std::string describe() const override {
    cudaDeviceProp properties{};
    checked(cudaGetDeviceProperties(&properties, device_));
    return fmt::format("device {:2} [{:04x}:{:02x}:{:02x}] {}", device_, properties.pciDomainID, properties.pciBusID,
                       properties.pciDeviceID, properties.name);
  }

  Stream stream() const override { return own_stream_ ? own_stream_->get() : nullptr; }
  void make_current() override { checked(cudaSetDevice(device_)); }

  std::byte* allocate(std::size_t bytes) override {
    make_current();
    void* memory = nullptr;
    checked(cudaMalloc(&memory, bytes));
    return static_cast<std::byte*>(memory);
  }

  void release(std::byte* memory) override { cudaFree(memory); }

  void set(void* data, std::uint8_t value, std::size_t bytes) override {
    make_current();
    checked(cudaMemsetAsync(data, value, bytes, stream()));
    wait(check_deadline_s);
  }

  void fill_with(void* data, std::size_t count, const Payload& payload, int rank) override {
    make_current();
    checked(static_cast<cudaError_t>(launch_fill(data, count, payload, rank, stream())));
    wait(check_deadline_s);
  }

  std::uint64_t wrong(const void* data, std::size_t count, const Payload& payload, int rank) override {
    return counted([&] { return launch_count_wrong(data, count, payload, rank, total_, stream()); });
  }

  std::uint64_t altered(const void* data, std::size_t bytes, std::uint8_t value) override {
    return counted([&] { return launch_count_altered(data, bytes, value, total_, stream()); });
  }

  void start() override { checked(cudaEventRecord(begin_->get(), stream())); }
  void stop() override { checked(cudaEventRecord(end_->get(), stream())); }
  double elapsed_us() override { return perf::elapsed_us(*begin_, *end_); }

  // Relaxed: one thread captures the streams of all its ranks side by side, and other workers may allocate meanwhile.
  void begin_capture() override { checked(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed)); }

  int end_capture() override {
    cudaGraph_t graph = nullptr;
    checked(cudaStreamEndCapture(stream(), &graph));
    cudaGraphExec_t runnable = nullptr;
    const cudaError_t made = cudaGraphInstantiate(&runnable, graph, 0);
    cudaGraphDestroy(graph);
    checked(made);
    graphs_.push_back(runnable);
    checked(cudaGraphUpload(runnable, stream()));
    return static_cast<int>(graphs_.size()) - 1;
  }

  void replay(int graph) override { checked(cudaGraphLaunch(graphs_.at(static_cast<std::size_t>(graph)), stream())); }

  void forget_graphs() override {
    for (cudaGraphExec_t graph : graphs_) cudaGraphExecDestroy(graph);
    graphs_.clear();
  }

  void wait(double deadline_s) override { wait_for(stream(), deadline_s); }

 private:
  template <typename Launch>
  std::uint64_t counted(Launch&& launch) {
    make_current();
    checked(cudaMemsetAsync(total_, 0, sizeof(*total_), stream()));
    checked(static_cast<cudaError_t>(launch()));
    wait(check_deadline_s);
    unsigned long long total = 0;
    checked(cudaMemcpyAsync(&total, total_, sizeof(total), cudaMemcpyDeviceToHost, stream()));
    wait(check_deadline_s);
    return total;
  }

  int device_ = 0;
  std::optional<OwnedStream> own_stream_;
  std::optional<OwnedEvent> begin_, end_;
  std::vector<cudaGraphExec_t> graphs_;
  unsigned long long* total_ = nullptr;  ///< device memory that check kernels add to
};

}  // namespace

std::unique_ptr<Place> make_cuda_place(int device, bool null_stream, bool urgent) {
  return std::make_unique<CudaPlace>(device, null_stream, urgent);
}

Survey survey_gpus() {
  Survey survey;
  const cudaError_t result = cudaGetDeviceCount(&survey.gpus);
  if (result == cudaSuccess && survey.gpus > 0) return survey;
  cudaGetLastError();
  return {.gpus = 0, .why_none = result == cudaSuccess ? "CUDA sees no device" : cudaGetErrorString(result)};
}

void use_device(int device) { checked(cudaSetDevice(device)); }

}  // namespace perf
