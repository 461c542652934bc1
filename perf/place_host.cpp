#include <chrono>
#include <collectives/error.hpp>
#include <cstring>
#include <new>

#include "perf/place.hpp"

namespace perf {
namespace {

constexpr std::align_val_t page{4096};

class HostPlace final : public Place {
 public:
  std::string describe() const override { return "cpu"; }
  Stream stream() const override { return nullptr; }
  void make_current() override {}

  std::byte* allocate(std::size_t bytes) override { return static_cast<std::byte*>(::operator new(bytes, page)); }
  void release(std::byte* memory) override { ::operator delete(memory, page); }

  void set(void* data, std::uint8_t value, std::size_t bytes) override { std::memset(data, value, bytes); }
  void fill_with(void* data, std::size_t count, const Payload& payload, int rank) override { fill(data, count, payload, rank); }
  std::uint64_t wrong(const void* data, std::size_t count, const Payload& payload, int rank) override {
    return count_wrong(data, count, payload, rank);
  }
  std::uint64_t altered(const void* data, std::size_t bytes, std::uint8_t value) override { return count_altered(data, bytes, value); }

  void start() override { began_ = Clock::now(); }
  void stop() override {}
  double elapsed_us() override { return std::chrono::duration<double, std::micro>(Clock::now() - began_).count(); }

  void begin_capture() override { no_graphs(); }
  int end_capture() override { no_graphs(); }
  void replay(int) override { no_graphs(); }
  void forget_graphs() override {}
  void wait(double) override {}

 private:
  using Clock = std::chrono::steady_clock;
  [[noreturn]] static void no_graphs() { throw collectives::Error(collectives::ErrorCode::unsupported, "CPU ranks have no graphs"); }
  Clock::time_point began_;
};

}  // namespace

std::unique_ptr<Place> make_host_place() { return std::make_unique<HostPlace>(); }

}  // namespace perf
