// All-reduces that copy engines carry. Every rank needs a GPU of its own: where there are fewer than two, there is nothing to run.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "base/cuda.hpp"
#include "test.hpp"
#include "trial.hpp"

using namespace collectives;

namespace {

/// On as many ranks as there are GPUs, up to `most`; 0 where ranks would share one.
int ranks_for(int most) {
  const int gpus = std::min(cuda_device_count(), most);
  if (gpus < 2) WARN("fewer than two GPUs: copy engines were not tried");
  return gpus < 2 ? 0 : gpus;
}

Options by_copies() {
  Options options;
  options.algorithm = AlgorithmChoice{Algorithm::copy_two_shot};
  options.first_epoch = 0xfffffff0u;  // every run crosses the wrap
  return options;
}

bool is_by_copies(const Ranks& ranks, const Trial& trial) { return ranks.communicators[0].plan_for(trial.count, trial.type, trial.op).copies; }

void call(Ranks& ranks, int rank, const Trial& trial) {
  const auto r = static_cast<std::size_t>(rank);
  ranks.communicators[r].all_reduce({ranks.in[r].data(), trial.count, trial.type}, {ranks.out[r].data(), trial.count, trial.type}, trial.op, ranks.stream(rank));
}

void synchronize_all(Ranks& ranks) {
  for (int rank = 0; rank < ranks.size(); ++rank) ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank));
}

}  // namespace

TEST_CASE("copy engines give every type and operation exactly, at every small size", "[gpu][copies]") {
  for (int count = 2; count <= ranks_for(8); ++count) {
    Ranks ranks(counted(count), by_copies(), 64 << 10);
    std::size_t calls = 0, wrong = 0;
    std::uint64_t seed = 0;
    for (int type = 0; type < data_type_count; ++type)
      for (int op = 0; op < reduce_op_count; ++op)
        for (const std::size_t elements : {0, 1, 2, 3, 7, 16, 17, 31, 127, 257, 1031, 4099}) {
          ++seed;
          const Trial trial{static_cast<DataType>(type), static_cast<ReduceOp>(op), elements, seed % 2 == 0, static_cast<int>(seed / 2 % 3), seed};
          CAPTURE(count, type, op, elements, trial.in_place, trial.offset, seed);
          if (elements > 0) REQUIRE(is_by_copies(ranks, trial));
          const std::size_t found = mismatches(ranks, trial);
          if (found != 0) CHECK(found == 0);
          ++calls;
          wrong += found;
        }
    WARN(count << " ranks: " << calls << " calls, " << wrong << " wrong");
    CHECK(wrong == 0);
  }
}

TEST_CASE("copy engines give odd sizes up to 64 MB exactly, within their slots and far beyond them", "[gpu][copies]") {
  const bool small_pool = GENERATE(false, true);
  for (int count = 2; count <= ranks_for(4); ++count) {
    Options options = by_copies();
    if (small_pool) options.pool_bytes = std::size_t{24} << 20;
    Ranks ranks(counted(count), options, (std::size_t{64} << 20) + 4096);
    std::uint64_t seed = 3000;
    for (const auto type : {DataType::bfloat16, DataType::float32, DataType::int64, DataType::int8})
      for (std::size_t bytes = 64 << 10; bytes <= std::size_t{64} << 20; bytes *= 32)
        for (const int around : {-1, 0, 5}) {
          // What is expected of the largest takes the host seconds to work out.
          if (bytes > std::size_t{2} << 20 && (type != DataType::bfloat16 || around == 0 || count != 3)) continue;
          const std::size_t elements = bytes / size_of(type) + static_cast<std::size_t>(around);
          const Trial trial{type, ++seed % 4 == 0 ? ReduceOp::max : ReduceOp::sum, elements, seed / 2 % 2 == 0, static_cast<int>(seed / 4 % 2), seed};
          CAPTURE(count, small_pool, name_of(type), elements, trial.in_place, trial.offset, seed);
          REQUIRE(is_by_copies(ranks, trial));
          CHECK(mismatches(ranks, trial) == 0);
        }
  }
}

TEST_CASE("captured copies replay with new data any number of times, beside eager calls and other kernels", "[gpu][copies][graph]") {
  const std::size_t elements = GENERATE(1u, 1031u, 300'001u, 9'000'000u);
  const int count = ranks_for(4);
  if (count == 0) return;
  Ranks ranks(counted(count), by_copies(), elements * 2 + 64);
  Trial trial{DataType::bfloat16, ReduceOp::sum, elements, false, 0, 1};
  REQUIRE(is_by_copies(ranks, trial));
  std::vector<cudaGraphExec_t> graphs;
  for (int rank = 0; rank < count; ++rank) {
    const DeviceScope scope(rank);
    cuda_check(cudaStreamBeginCapture(ranks.stream(rank), cudaStreamCaptureModeGlobal));
    for (int repeat = 0; repeat < 3; ++repeat) call(ranks, rank, trial);
    cudaGraph_t graph = nullptr;
    cuda_check(cudaStreamEndCapture(ranks.stream(rank), &graph));
    cuda_check(cudaGraphInstantiate(&graphs.emplace_back(), graph, 0));
    cuda_check(cudaGraphDestroy(graph));
  }
  for (trial.seed = 2; trial.seed < 26; ++trial.seed) {
    CAPTURE(count, elements, trial.seed);
    put(ranks, trial);
    // Another family in between: no copy engine broadcasts.
    for (int rank = 0; rank < count && trial.seed % 5 == 0; ++rank)
      ranks.communicators[static_cast<std::size_t>(rank)].broadcast({ranks.in[static_cast<std::size_t>(rank)].data(), 1, trial.type},
                                                                   {ranks.out[static_cast<std::size_t>(rank)].data(), 1, trial.type}, 0, ranks.stream(rank));
    for (int rank = 0; rank < count; ++rank)
      trial.seed % 3 == 0 ? call(ranks, rank, trial) : cuda_check(cudaGraphLaunch(graphs[static_cast<std::size_t>(rank)], ranks.stream(rank)));
    synchronize_all(ranks);
    REQUIRE(wrong_ranks(ranks, trial) == 0);
  }
  for (cudaGraphExec_t graph : graphs) cuda_check(cudaGraphExecDestroy(graph));
}

TEST_CASE("copies and direct kernels give the same bits, in turns on the same GPUs", "[gpu][copies]") {
  const int count = ranks_for(4);
  if (count == 0) return;
  Options other;
  other.algorithm = AlgorithmChoice{Algorithm::two_shot};
  Ranks copies(counted(count), by_copies(), 1 << 20), stores(counted(count), other, 1 << 20);
  for (const auto type : {DataType::float32, DataType::float16, DataType::bfloat16, DataType::float8_e5m2}) {
    const std::size_t bytes = 999'992;
    for (int rank = 0; rank < count; ++rank) {
      // Any bits: infinities, subnormals and every NaN among them.
      std::vector<std::byte> data(bytes);
      for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>((i * 2654435761u + static_cast<std::size_t>(rank) * 40503u) >> 13);
      copies.in[static_cast<std::size_t>(rank)].write(data);
      stores.in[static_cast<std::size_t>(rank)].write(data);
    }
    const Trial trial{type, ReduceOp::sum, bytes / size_of(type)};
    for (Ranks* ranks : {&copies, &stores}) {
      for (int rank = 0; rank < count; ++rank) call(*ranks, rank, trial);
      synchronize_all(*ranks);
    }
    for (std::size_t rank = 0; rank < static_cast<std::size_t>(count); ++rank) CHECK(copies.out[rank].read(bytes) == stores.out[rank].read(bytes));
  }
}

TEST_CASE("a rank that never calls is named though copies are under way", "[gpu][copies][failure]") {
  const int count = ranks_for(3);
  if (count == 0) return;
  Options options = by_copies();
  options.timeout_ms = 300;
  Ranks ranks(counted(count), options, 32 << 20);
  const Trial trial{DataType::float32, ReduceOp::sum, 8 << 20, false, 0, 1};
  put(ranks, trial);
  for (int rank = 0; rank < count; ++rank)
    if (rank != 1) call(ranks, rank, trial);
  for (int rank = 0; rank < count; ++rank) {
    if (rank == 1) continue;
    CHECK_THROWS_WITH(ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank)), ContainsSubstring("rank 1"));
    CHECK_THROWS_AS(call(ranks, rank, trial), Error);
  }
}

TEST_CASE("abort ends copies of all ranks that wait for one", "[gpu][copies][failure]") {
  const int count = ranks_for(3);
  if (count < 3) return;
  Ranks ranks(counted(count), by_copies(), 4096);
  const Trial trial{DataType::float32, ReduceOp::sum, 100, false, 0, 1};
  call(ranks, 0, trial);
  call(ranks, 1, trial);
  ranks.communicators[0].abort();
  CHECK_THROWS_WITH(ranks.communicators[0].synchronize(ranks.stream(0)), ContainsSubstring("abort"));
  CHECK_THROWS_WITH(ranks.communicators[1].synchronize(ranks.stream(1)), ContainsSubstring("rank 0 reports that it aborted"));
}
