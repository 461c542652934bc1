// Programs make a communicator for each group of their ranks: dozens share a device's bound.
#include <vector>

#include "comm/impl.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

/// How many communicators with `pools` pools on a device find room within a bound of `bound` bytes; `first` gets the layout of the first.
std::size_t communicators_within(std::size_t bound, std::size_t pools, Backend backend, kernels::Layout& first) {
  const std::size_t granule = backend == Backend::cuda ? 2 * mib : 64u << 10;
  std::size_t left = bound;
  for (std::size_t made = 0;; ++made) {
    try {
      const kernels::Layout layout = layout_for(share_of(room_of(bound, left), pools, backend), backend, 0, false);
      if (made == 0) first = layout;
      const std::size_t taken = pools * ((layout.bytes() + 256 + granule - 1) / granule * granule);
      if (taken > left) throw Error(ErrorCode::internal, "a layout takes more than there is");
      left -= taken;
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::out_of_memory);
      CHECK_THAT(error.what(), ContainsSubstring("COLLECTIVES_POOL_BYTES raises the bound"));
      return made;
    }
  }
}

}  // namespace

TEST_CASE("64 communicators of a device find room within the default bound, the first ones with all they can use", "[comm][host][many]") {
  kernels::Layout first;
  CHECK(communicators_within(512 * mib, 1, Backend::cuda, first) >= 64);
  CHECK(first.sentinel_bytes == 93 * 8 * mib / 32);
  CHECK(communicators_within(512 * mib, 2, Backend::host, first) >= 64);
  // Where little memory is free, every granule is used.
  CHECK(communicators_within(32 * mib, 1, Backend::cuda, first) >= 8);
  CHECK(communicators_within(2 * mib, 1, Backend::cuda, first) == 1);
  CHECK(communicators_within(1 * mib, 1, Backend::cuda, first) == 0);
}

TEST_CASE("64 communicators of one process work side by side", "[comm][host][many]") {
  Options options;
  options.backend = Backend::host;
  options.pool_bytes = 512 * mib;
  std::vector<std::vector<Communicator>> all;
  for (int i = 0; i < 64; ++i) all.push_back(Communicator::create_local({0, 1}, options));
  std::vector<float> values(2 * all.size(), 0);
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t rank = 0; rank < 2; ++rank) {
      float& mine = values[2 * i + rank] = static_cast<float>(i * (rank + 1));
      all[i][rank].all_reduce({&mine, 1, DataType::float32}, {&mine, 1, DataType::float32}, ReduceOp::sum);
    }
  for (auto& ranks : all)
    for (auto& rank : ranks) rank.finish();
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(values[i] == static_cast<float>(i / 2 * 3));
}
