#include <algorithm>
#include <array>

#include "base/atomics.hpp"
#include "exec/timer.hpp"

namespace collectives {
namespace {

class HostTimer final : public Timer {
 public:
  HostTimer(Executor& executor, std::size_t bytes) : executor_(executor), memory_(std::make_unique<std::byte[]>(bytes)) {}

  Stream stream() const override { return nullptr; }
  std::byte* memory() const override { return memory_.get(); }
  std::uint64_t* words() const override { return const_cast<std::uint64_t*>(words_.data()); }

  std::uint64_t time(int calls, int samples, const std::function<void()>& meet, const std::function<void()>& call) override {
    std::uint64_t least = UINT64_MAX;
    for (int sample = 0; sample < samples; ++sample) {
      meet();
      wait();
      const std::uint64_t began = now_ns();
      for (int i = 0; i < calls; ++i) call();
      wait();
      least = std::min(least, (now_ns() - began) / static_cast<std::uint64_t>(calls));
    }
    return least;
  }

 private:
  void wait() {
    executor_.synchronize(nullptr);
    if (const auto fault = executor_.fault(false)) throw *fault;
  }

  Executor& executor_;
  std::unique_ptr<std::byte[]> memory_;
  std::array<std::uint64_t, 2> words_{};
};

}  // namespace

std::unique_ptr<Timer> make_host_timer(Executor& executor, std::size_t bytes) { return std::make_unique<HostTimer>(executor, bytes); }

}  // namespace collectives
