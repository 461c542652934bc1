// An all-reduce whose result is known, for a doctor: integers, so that every algorithm must give the same.
#include "comm/check.hpp"

#include <chrono>
#include <cstdint>

#include "base/require.hpp"
#include "comm/impl.hpp"

#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

namespace collectives {
namespace {

using Words = std::vector<std::uint32_t>;

/// Differs by rank, by element and by call.
std::uint32_t operand(int rank, std::size_t i, std::uint32_t call) {
  return (static_cast<std::uint32_t>(i) + 977u * static_cast<std::uint32_t>(rank) + 31337u * call) * 2654435761u;
}

/// A stream a rank: ranks may share a GPU. On the host none is needed.
class Streams {
 public:
  explicit Streams(const std::vector<Communicator>& ranks) {
    for ([[maybe_unused]] const Communicator& rank : ranks) {
#if COLLECTIVES_HAS_CUDA
      if (rank.device() >= 0) {
        const DeviceScope scope(rank.device());
        owned_.push_back(make_stream());
        all_.push_back(owned_.back().get());
        continue;
      }
#endif
      all_.push_back(nullptr);
    }
  }
  Stream operator[](std::size_t rank) const { return all_[rank]; }

 private:
#if COLLECTIVES_HAS_CUDA
  std::vector<CudaStream> owned_;
#endif
  std::vector<Stream> all_;
};

/// Memory where a rank's operand or result may be, filled from the host and read back.
class RankBuffer {
 public:
  RankBuffer(int device, std::size_t count) : device_(device), host_(device < 0 ? count : 0) {
#if COLLECTIVES_HAS_CUDA
    if (device < 0) return;
    const DeviceScope scope(device);
    cuda_check(cudaMalloc(&memory_, count * sizeof(std::uint32_t)));
#endif
  }
  ~RankBuffer() {
#if COLLECTIVES_HAS_CUDA
    if (memory_) (void)cudaFree(memory_);
#endif
  }
  RankBuffer(const RankBuffer&) = delete;
  RankBuffer& operator=(const RankBuffer&) = delete;

  void* data() { return device_ < 0 ? host_.data() : memory_; }
  void put(const Words& words) {
    if (device_ < 0) host_ = words;
#if COLLECTIVES_HAS_CUDA
    if (device_ < 0) return;
    const DeviceScope scope(device_);
    cuda_check(cudaMemcpy(memory_, words.data(), words.size() * sizeof(std::uint32_t), cudaMemcpyHostToDevice));
    // From pageable memory it may return before all has arrived, and the ranks' streams do not wait for the default stream.
    cuda_check(cudaStreamSynchronize(nullptr));
#endif
  }
  Words get(std::size_t count) const {
    if (device_ < 0) return host_;
    Words words(count);
#if COLLECTIVES_HAS_CUDA
    cuda_check(cudaMemcpy(words.data(), memory_, count * sizeof(std::uint32_t), cudaMemcpyDeviceToHost));
#endif
    return words;
  }

 private:
  int device_;
  Words host_;
  void* memory_ = nullptr;
};

/// All ranks' calls and their ends, in microseconds.
double call_all(std::vector<Communicator>& ranks, const Streams& streams, std::vector<std::unique_ptr<RankBuffer>>& in,
                std::vector<std::unique_ptr<RankBuffer>>& out, std::size_t count) {
  const auto begin = std::chrono::steady_clock::now();
  for (std::size_t r = 0; r < ranks.size(); ++r)
    ranks[r].all_reduce({in[r]->data(), count, DataType::uint32}, {out[r]->data(), count, DataType::uint32}, ReduceOp::sum, streams[r]);
  for (std::size_t r = 0; r < ranks.size(); ++r) ranks[r].synchronize(streams[r]);
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

void check_size(std::vector<Communicator>& ranks, AllReduceCheck& check) {
  const std::size_t count = check.bytes / sizeof(std::uint32_t);
  check.plan = name_of(ranks[0].plan_for(count, DataType::uint32, ReduceOp::sum).choice.algorithm);
  const Streams streams(ranks);
  std::vector<std::unique_ptr<RankBuffer>> in, out;
  for (const Communicator& rank : ranks) {
    in.push_back(std::make_unique<RankBuffer>(rank.device(), count));
    out.push_back(std::make_unique<RankBuffer>(rank.device(), count));
  }
  // Twice, so that both halves of the slots are used and nothing of the first call passes for the second's.
  for (std::uint32_t call = 0; call < 2; ++call) {
    Words expected(count), words(count);
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      for (std::size_t i = 0; i < count; ++i) expected[i] += words[i] = operand(static_cast<int>(r), i, call);
      in[r]->put(words);
    }
    check.us = call_all(ranks, streams, in, out, count);
    for (const auto& result : out) {
      const Words found = result->get(count);
      for (std::size_t i = 0; i < count; ++i) check.wrong_elements += found[i] != expected[i];
    }
  }
  check.right = check.wrong_elements == 0;
}

}  // namespace

void check_all_reduce(const std::vector<int>& devices, const Options& options, const std::vector<std::size_t>& bytes,
                      const std::function<void(const AllReduceCheck&)>& tell) {
  std::vector<Communicator> ranks;
  for (const std::size_t size : bytes) {
    AllReduceCheck check;
    check.bytes = size;
    // A failure is what this is looking for; the communicator is dead after it, so each size after that has a new one.
    try {
      if (ranks.empty()) ranks = Communicator::create_local(devices, options);
      check_size(ranks, check);
    } catch (const Error& error) {
      check.error = error.what();
      check.timed_out = error.code() == ErrorCode::timeout;
      ranks.clear();
    }
    tell(check);
  }
}

std::vector<AllReduceCheck> check_all_reduce(const std::vector<int>& devices, const Options& options, const std::vector<std::size_t>& bytes) {
  std::vector<AllReduceCheck> checks;
  check_all_reduce(devices, options, bytes, [&](const AllReduceCheck& check) { checks.push_back(check); });
  return checks;
}

}  // namespace collectives
