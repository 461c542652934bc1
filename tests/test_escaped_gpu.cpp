// Reductions that direct kernels carry over the escaped wire: every bit of every type, words that look like empty slots among them.
#include <cuda_runtime_api.h>

#include <cstring>
#include <random>

#include "base/cuda.hpp"
#include "kernels/wire.hpp"
#include "reduced.hpp"
#include "test.hpp"
#include "trial.hpp"

using namespace collectives;

namespace {

using Bytes = std::vector<std::byte>;

std::vector<int> devices_for(int ranks) {
  std::vector<int> devices;
  for (int rank = 0; rank < ranks; ++rank) devices.push_back(rank % cuda_device_count());
  return devices;
}

/// One call, and how its buffers lie.
struct Case {
  DataType type;
  ReduceOp op;
  std::size_t count;  ///< of the message, all blocks of it
  Collective collective = Collective::all_reduce;
  bool in_place = false;
  bool scaled = false;
  int offset = 0;  ///< elements by which the buffers miss their alignment to 16 bytes
};

/// Words that look empty, words that look like what those travel as, all ones, words of small numbers, and any others, in stretches and mixed.
Bytes payload(std::size_t bytes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::uint32_t> words(bytes / 4 + 1);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::uint64_t drawn = random();
    const auto any = static_cast<std::uint32_t>(drawn >> 32);
    const std::uint64_t stretch = i / 512 % 4, kind = stretch < 2 ? stretch : stretch == 2 ? drawn % 5 : drawn % 64;
    words[i] = kind == 0   ? kernels::EscapedWire::looks_empty
               : kind == 1 ? kernels::EscapedWire::looks_marked
               : kind == 2 ? 0xffffffffu - any % 2
               : kind == 3 ? any % 17 * 0x01010101u
                           : any;
  }
  Bytes result(bytes);
  std::memcpy(result.data(), words.data(), bytes);
  return result;
}

/// A factor a rank, which is a small number in its type.
std::vector<Bytes> factors_of(const Case& trial, std::size_t ranks) {
  std::vector<Bytes> factors;
  for (std::size_t rank = 0; trial.scaled && rank < ranks; ++rank) write_element(factors.emplace_back(8).data(), trial.type, rank % 2 == 0 ? 2 : 1);
  return factors;
}

/// Makes the call and returns how many ranks got anything but the bits they must, or had something else written to.
std::size_t wrong_of(Ranks& ranks, const Case& trial, std::uint64_t seed) {
  const auto n = static_cast<std::size_t>(ranks.size());
  const std::size_t size = size_of(trial.type), bytes = trial.count * size, at = 64 + static_cast<std::size_t>(trial.offset) * size;
  const bool scatters = trial.collective == Collective::reduce_scatter;
  const std::size_t block = scatters ? bytes / n : bytes;
  std::vector<Bytes> inputs;
  const auto factors = factors_of(trial, n);
  for (std::size_t r = 0; r < n; ++r) {
    inputs.push_back(payload(bytes, seed * 64 + r));
    Bytes image(at + bytes + 64, std::byte{0xa5});
    ranks.out[r].write(image);
    std::copy(inputs[r].begin(), inputs[r].end(), image.begin() + static_cast<std::ptrdiff_t>(at));
    (trial.in_place ? ranks.out : ranks.in)[r].write(image);
  }
  for (std::size_t r = 0; r < n; ++r) {
    const std::byte* in = (trial.in_place ? ranks.out : ranks.in)[r].data() + at;
    std::byte* out = ranks.out[r].data() + at + (scatters && trial.in_place ? r * block : 0);
    const ConstBuffer from{in, trial.count, trial.type};
    const Buffer to{out, block / size, trial.type};
    Communicator& communicator = ranks.communicators[r];
    const Stream stream = ranks.stream(static_cast<int>(r));
    const ScaledSum sum{trial.scaled ? factors[r].data() : nullptr, false};
    if (scatters) {
      trial.scaled ? communicator.reduce_scatter(from, to, sum, stream) : communicator.reduce_scatter(from, to, trial.op, stream);
    } else {
      trial.scaled ? communicator.all_reduce(from, to, sum, stream) : communicator.all_reduce(from, to, trial.op, stream);
    }
  }
  for (std::size_t r = 0; r < n; ++r) ranks.communicators[r].synchronize(ranks.stream(static_cast<int>(r)));
  const Bytes expected = reduced(trial.type, trial.scaled ? ReduceOp::sum : trial.op, inputs, factors);
  std::size_t wrong = 0;
  for (std::size_t r = 0; r < n; ++r) {
    Bytes image(at + bytes + 64, std::byte{0xa5});
    const auto place = image.begin() + static_cast<std::ptrdiff_t>(at);
    if (trial.in_place) std::copy(inputs[r].begin(), inputs[r].end(), place);
    const auto part = expected.begin() + static_cast<std::ptrdiff_t>(scatters ? r * block : 0);
    std::copy(part, part + static_cast<std::ptrdiff_t>(block), place + static_cast<std::ptrdiff_t>(scatters && trial.in_place ? r * block : 0));
    wrong += ranks.out[r].read(image.size()) != image;
  }
  return wrong;
}

struct Tally {
  std::size_t sizes = 0, calls = 0, wrong = 0, escaped = 0;
};

void try_case(Ranks& ranks, Case trial, Tally& tally) {
  const auto n = static_cast<std::size_t>(ranks.size());
  if (trial.collective == Collective::reduce_scatter) trial.count = std::max<std::size_t>(trial.count * size_of(trial.type) / n / 16, 1) * 16 / size_of(trial.type) * n;
  const std::uint64_t seed = ++tally.calls;
  CAPTURE(n, name_of(trial.type), name_of(trial.op), trial.count, name_of(trial.collective), trial.in_place, trial.scaled, trial.offset, seed);
  const std::size_t wrong = wrong_of(ranks, trial, seed);
  if (wrong != 0) CHECK(wrong == 0);
  tally.wrong += wrong;
  const std::size_t count = trial.collective == Collective::reduce_scatter ? trial.count / n : trial.count;
  const Plan plan = ranks.communicators[0].plan_for({.collective = trial.collective, .count = count, .type = trial.type, .op = trial.op, .scaled = trial.scaled});
  tally.escaped += plan.direct && plan.wire == Wire::escaped;
}

/// Every type and operation at a size, in ways of lying in memory that change from one to the next. Every `thinning`th of them, from another on at each size.
void try_all(Ranks& ranks, std::size_t bytes, std::size_t thinning, Tally& tally) {
  std::size_t index = tally.sizes++;
  for (int type = 0; type < data_type_count; ++type)
    for (int op = 0; op <= reduce_op_count; ++op) {
      if (++index % thinning != 0) continue;
      const bool scaled = op == reduce_op_count;
      const std::size_t turn = index / thinning, size = size_of(static_cast<DataType>(type));
      try_case(ranks,
               {.type = static_cast<DataType>(type), .op = scaled ? ReduceOp::sum : static_cast<ReduceOp>(op), .count = bytes / size + (turn % 3 == 0 ? 1 : 0),
                .collective = turn % 4 == 3 ? Collective::reduce_scatter : Collective::all_reduce, .in_place = turn % 2 == 0, .scaled = scaled,
                .offset = turn % 5 == 0 ? 1 : 0},
               tally);
    }
}

}  // namespace

TEST_CASE("every type and operation has the host's bits over the escaped wire, words that look like empty slots among them", "[gpu][escaped]") {
  const int count = GENERATE(2, 3, 4, 5, 7, 8);
  const auto algorithm = GENERATE(Algorithm::one_shot, Algorithm::two_shot);
  Options options;
  options.algorithm = AlgorithmChoice{algorithm};
  options.first_epoch = 0xffffff80u;  // crosses the wrap
  constexpr std::size_t largest = std::size_t{4} << 20;
  Ranks ranks(devices_for(count), options, largest + 1024);
  Tally tally;
  for (const std::size_t bytes : {std::size_t{16}, std::size_t{24}, std::size_t{1000}, std::size_t{8192}, std::size_t{100'000}}) try_all(ranks, bytes, count <= 3 ? 1 : 3, tally);
  for (const std::size_t bytes : {std::size_t{600'000}, std::size_t{1} << 20, std::size_t{2'500'000}, largest}) try_all(ranks, bytes, 17, tally);
  WARN(count << " ranks, " << name_of(algorithm) << ": " << tally.calls << " calls, " << tally.escaped << " over the escaped wire, " << tally.wrong << " ranks wrong");
  CHECK(tally.wrong == 0);
  CHECK(tally.escaped * 5 > tally.calls * 4);
}

TEST_CASE("reductions over the escaped wire many times larger than their slots have the host's bits", "[gpu][escaped]") {
  const int count = GENERATE(2, 3, 4, 6, 8);
  const auto algorithm = GENERATE(Algorithm::one_shot, Algorithm::two_shot);
  Options options;
  options.algorithm = AlgorithmChoice{algorithm};
  options.first_epoch = 0x7fffffe0u;  // crosses the other wrap
  const int gpus = cuda_device_count();
  options.pool_bytes = static_cast<std::size_t>((count + gpus - 1) / gpus) * (2u << 20);
  constexpr std::size_t largest = std::size_t{3} << 20;
  Ranks ranks(devices_for(count), options, largest + 1024);
  Tally tally;
  for (const std::size_t bytes : {std::size_t{1000}, std::size_t{65'536}, std::size_t{700'000}, largest - 16, largest}) try_all(ranks, bytes, bytes < 100'000 ? 5 : 17, tally);
  const Plan plan = ranks.communicators[0].plan_for(largest / 4, DataType::int32, ReduceOp::sum);
  CHECK((plan.wire == Wire::escaped && plan.wide));
  CHECK(tally.wrong == 0);
}

TEST_CASE("what the escaped wire leaves behind nobody takes for an arrival", "[gpu][escaped][graph]") {
  const int count = GENERATE(2, 4);
  constexpr std::size_t most = std::size_t{9} << 20;
  Ranks ranks(devices_for(count), {}, most + 1024);
  // Small and large calls of all wires in turns, in a graph that is replayed with other data, and between its replays one by one.
  const std::vector<Trial> trials = {{DataType::int32, ReduceOp::sum, 1031}, {DataType::bfloat16, ReduceOp::sum, 4096}, {DataType::float32, ReduceOp::max, 200'001},
                                     {DataType::int64, ReduceOp::sum, 1'000'003}, {DataType::bfloat16, ReduceOp::sum, 4'000'000}, {DataType::int32, ReduceOp::sum, 2}};
  for (const Trial& trial : trials) {
    const Plan plan = ranks.communicators[0].plan_for(trial.count, trial.type, trial.op);
    CHECK((plan.direct && (plan.wire == Wire::sentinel) == (trial.type == DataType::bfloat16)));
  }
  const auto enqueue = [&](int rank, const Trial& trial) {
    const auto r = static_cast<std::size_t>(rank);
    ranks.communicators[r].all_reduce({ranks.in[r].data(), trial.count, trial.type}, {ranks.out[r].data(), trial.count, trial.type}, trial.op, ranks.stream(rank));
  };
  std::vector<std::vector<cudaGraphExec_t>> graphs(trials.size());  // of all trials, the one that is looked at last
  for (std::size_t last = 0; last < trials.size(); ++last)
    for (int rank = 0; rank < count; ++rank) {
      const DeviceScope scope(ranks.communicators[static_cast<std::size_t>(rank)].device());
      cuda_check(cudaStreamBeginCapture(ranks.stream(rank), cudaStreamCaptureModeGlobal));
      for (std::size_t i = 1; i <= trials.size(); ++i) enqueue(rank, trials[(last + i) % trials.size()]);
      cudaGraph_t graph = nullptr;
      cuda_check(cudaStreamEndCapture(ranks.stream(rank), &graph));
      cuda_check(cudaGraphInstantiate(&graphs[last].emplace_back(), graph, 0));
      cuda_check(cudaGraphDestroy(graph));
    }
  for (std::uint64_t seed = 1; seed <= 24; ++seed) {
    const std::size_t last = seed % trials.size();
    Trial trial = trials[last];
    trial.seed = seed;
    CAPTURE(count, seed, name_of(trial.type), trial.count);
    put(ranks, trial);
    for (int rank = 0; rank < count; ++rank) {
      for (std::size_t i = 0; i < seed % 3; ++i) enqueue(rank, trials[(seed + i) % trials.size()]);
      cuda_check(cudaGraphLaunch(graphs[last][static_cast<std::size_t>(rank)], ranks.stream(rank)));
    }
    for (int rank = 0; rank < count; ++rank) ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank));
    REQUIRE(wrong_ranks(ranks, trial) == 0);
  }
  for (const auto& of_ranks : graphs)
    for (cudaGraphExec_t graph : of_ranks) cuda_check(cudaGraphExecDestroy(graph));
}

TEST_CASE("a rank that never comes to a reduction over the escaped wire is named, and so is the call", "[gpu][escaped][failure]") {
  const std::size_t count = GENERATE(std::size_t{100}, std::size_t{4} << 20);
  Options options;
  options.timeout_ms = 300;
  options.pool_bytes = 16 << 20;
  Ranks ranks(devices_for(3), options, 4 * count);
  const auto enqueue = [&](int rank) {
    const auto r = static_cast<std::size_t>(rank);
    ranks.communicators[r].all_reduce({ranks.in[r].data(), count, DataType::int32}, {ranks.out[r].data(), count, DataType::int32}, ReduceOp::sum, ranks.stream(rank));
  };
  CHECK(ranks.communicators[0].plan_for(count, DataType::int32, ReduceOp::sum).wire == Wire::escaped);
  for (int rank = 0; rank < 3; ++rank) enqueue(rank);
  for (int rank = 0; rank < 3; ++rank) ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank));
  for (const int rank : {0, 2}) enqueue(rank);
  for (const int rank : {0, 2}) {
    CHECK_THROWS_WITH(ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank)), ContainsSubstring("call 1: ") && ContainsSubstring("rank 1 did not come"));
    CHECK_THROWS_AS(enqueue(rank), Error);
  }
}
