// What only GPUs have: streams, graphs, memory of several origins. Every test runs on as many GPUs as there are and shares
// them among its ranks if they are few.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <span>

#include "base/cuda.hpp"
#include "soak_kernels.hpp"
#include "test.hpp"
#include "trial.hpp"
#include "variable.hpp"

using namespace collectives;

namespace {

std::vector<int> devices_for(int ranks) {
  const int gpus = cuda_device_count();
  std::vector<int> devices;
  for (int rank = 0; rank < ranks; ++rank) devices.push_back(rank % gpus);
  return devices;
}

void call(Ranks& ranks, int rank, const Trial& trial, Stream stream) {
  const auto r = static_cast<std::size_t>(rank);
  ranks.communicators[r].all_reduce({ranks.in[r].data(), trial.count, trial.type}, {ranks.out[r].data(), trial.count, trial.type}, trial.op, stream);
}

void call_all(Ranks& ranks, const Trial& trial) {
  for (int rank = 0; rank < ranks.size(); ++rank) call(ranks, rank, trial, ranks.stream(rank));
}

void synchronize_all(Ranks& ranks) {
  for (int rank = 0; rank < ranks.size(); ++rank) ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank));
}

/// A graph a rank of what `body(rank)` enqueues on its stream.
template <typename Body>
std::vector<cudaGraphExec_t> capture(Ranks& ranks, Body body) {
  std::vector<cudaGraphExec_t> graphs;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const DeviceScope scope(ranks.communicators[static_cast<std::size_t>(rank)].device());
    cuda_check(cudaStreamBeginCapture(ranks.stream(rank), cudaStreamCaptureModeGlobal));
    body(rank);
    cudaGraph_t graph = nullptr;
    cuda_check(cudaStreamEndCapture(ranks.stream(rank), &graph));
    cuda_check(cudaGraphInstantiate(&graphs.emplace_back(), graph, 0));
    cuda_check(cudaGraphDestroy(graph));
  }
  return graphs;
}

void replay(Ranks& ranks, const std::vector<cudaGraphExec_t>& graphs) {
  for (int rank = 0; rank < ranks.size(); ++rank) cuda_check(cudaGraphLaunch(graphs[static_cast<std::size_t>(rank)], ranks.stream(rank)));
}

void forget(const std::vector<cudaGraphExec_t>& graphs) {
  for (cudaGraphExec_t graph : graphs) cuda_check(cudaGraphExecDestroy(graph));
}

Options short_deadline() {
  Options options;
  options.timeout_ms = 300;
  return options;
}

}  // namespace

TEST_CASE("captured calls replay with new data any number of times, mixed with eager ones", "[gpu][graph]") {
  const int count = GENERATE(2, 4);
  const std::size_t elements = GENERATE(1u, 1031u, 300'001u, 9'000'000u);
  const char* reach = GENERATE("auto", "off");
  const Variable policy("COLLECTIVES_P2P", reach);
  Ranks ranks(devices_for(count), {}, elements * 2 + 64);
  Trial trial{DataType::bfloat16, ReduceOp::sum, elements, false, 0, 1};
  const auto graphs = capture(ranks, [&](int rank) {
    for (int repeat = 0; repeat < 3; ++repeat) call(ranks, rank, trial, ranks.stream(rank));
  });
  for (trial.seed = 2; trial.seed < 22; ++trial.seed) {
    CAPTURE(count, elements, reach, trial.seed);
    put(ranks, trial);
    trial.seed % 3 == 0 ? call_all(ranks, trial) : replay(ranks, graphs);
    synchronize_all(ranks);
    REQUIRE(wrong_ranks(ranks, trial) == 0);
  }
  forget(graphs);
}

TEST_CASE("calls on two streams of one communicator come out in the order they were made", "[gpu][stream]") {
  Ranks ranks(devices_for(2), {}, 8 << 20);
  Ranks other(devices_for(2), {}, 8 << 20);  // its streams and its outputs serve for the second call
  const Trial trial{DataType::float32, ReduceOp::sum, 1 << 20, false, 0, 7};
  for (int repeat = 0; repeat < 20; ++repeat) {
    put(ranks, trial);
    for (int rank = 0; rank < 2; ++rank) call(ranks, rank, trial, ranks.stream(rank));
    for (int rank = 0; rank < 2; ++rank) {
      const auto r = static_cast<std::size_t>(rank);
      ranks.communicators[r].all_reduce({ranks.out[r].data(), trial.count, trial.type}, {other.out[r].data(), trial.count, trial.type}, ReduceOp::max,
                                        other.stream(rank));
    }
    for (int rank = 0; rank < 2; ++rank) ranks.communicators[static_cast<std::size_t>(rank)].synchronize(other.stream(rank));
    REQUIRE(wrong_ranks(other, trial) == 0);  // the maximum of equal sums is the sum, if the first call was done
  }
}

TEST_CASE("small calls that start early find what is before them in the stream done, and nothing behind them starts too soon", "[gpu][early]") {
  const std::size_t elements = GENERATE(8u, 4096u, 65'536u);
  const bool captured = GENERATE(true, false);
  Options options;
  options.programmatic_launch = true;
  options.first_epoch = 0xfffffff0u;  // crosses the wrap
  Ranks ranks(devices_for(2), options, elements * 2 + 64);
  Ranks between(devices_for(2), {}, elements * 2 + 64);  // its buffers: a copy of the operand, and the sum
  Trial trial{DataType::bfloat16, ReduceOp::sum, elements, false, 0, 1};
  // A copy, a sum, a move of what it gave, and what destroys all that these two have read.
  const auto enqueue = [&](int rank) {
    const auto r = static_cast<std::size_t>(rank);
    const Stream stream = ranks.stream(rank);
    Communicator& communicator = ranks.communicators[r];
    void *copy = between.in[r].data(), *sum = between.out[r].data();
    const DeviceScope scope(communicator.device());
    cuda_check(cudaMemcpyAsync(copy, ranks.in[r].data(), elements * 2, cudaMemcpyDefault, stream));
    communicator.all_reduce({copy, elements, trial.type}, {sum, elements, trial.type}, ReduceOp::sum, stream);
    communicator.broadcast({sum, elements, trial.type}, {ranks.out[r].data(), elements, trial.type}, 1, stream);
    communicator.all_reduce({sum, elements, trial.type}, {copy, elements, trial.type}, ReduceOp::sum, stream);
    cuda_check(cudaMemsetAsync(sum, 0x55, elements * 2, stream));
  };
  std::vector<cudaGraphExec_t> graphs;
  if (captured)
    graphs = capture(ranks, [&](int rank) {
      for (int repeat = 0; repeat < 5; ++repeat) enqueue(rank);
    });
  for (trial.seed = 2; trial.seed < 40; ++trial.seed) {
    CAPTURE(elements, captured, trial.seed);
    put(ranks, trial);
    for (int repeat = 0; !captured && repeat < 5; ++repeat)
      for (int rank = 0; rank < 2; ++rank) enqueue(rank);
    if (captured) replay(ranks, graphs);
    synchronize_all(ranks);
    REQUIRE(wrong_ranks(ranks, trial) == 0);
  }
  forget(graphs);
}

TEST_CASE("two ranks that send once are exact in one tile and in many, around the ends of their tiles", "[gpu][roomy]") {
  Options options;
  options.first_epoch = 0xfffffffcu;  // crosses the wrap
  Ranks ranks(devices_for(2), options, (std::size_t{20} << 20) + 64);
  constexpr std::size_t tile = 132 * 1024 * 8, mib = std::size_t{1} << 20;  // bfloat16s of two packs a thread
  std::uint64_t seed = 0;
  int roomy = 0;
  for (const auto type : {DataType::bfloat16, DataType::float16, DataType::float32})
    for (const std::size_t elements : {mib, mib + 8, tile, tile + 8, 2 * tile - 16, 3 * mib, 3 * mib + 5})
      for (const Collective collective : {Collective::all_reduce, Collective::reduce_scatter}) {
        const std::size_t count = elements * 2 / size_of(type) / (collective == Collective::reduce_scatter ? 2 : 1);
        const Trial trial{type, ReduceOp::sum, count, ++seed % 3 == 0, seed % 7 == 0 ? 1 : 0, seed, collective};
        CAPTURE(name_of(type), name_of(collective), count, trial.in_place, trial.offset);
        CHECK(mismatches(ranks, trial) == 0);
        roomy += ranks.communicators[0].plan_for({.collective = collective, .count = count, .type = type}).roomy;
      }
  CHECK((cuda_device_count() < 2 || roomy > 20));
}

TEST_CASE("three and four ranks are exact where their slots hold all tiles, wide or not, in chunks of one length and of two", "[gpu][roomy]") {
  const int count_of_ranks = GENERATE(3, 4);
  // A small pool's half holds fewer tiles than a call has.
  const std::size_t pool = GENERATE(std::size_t{0}, std::size_t{24} << 20);
  Options options;
  options.first_epoch = 0xfffffff0u;
  if (pool != 0) options.pool_bytes = static_cast<std::size_t>(count_of_ranks) * pool;
  Ranks ranks(devices_for(count_of_ranks), options, (std::size_t{20} << 20) + 64);
  std::uint64_t seed = 0;
  int roomy = 0, wide = 0;
  for (const std::size_t packs : {std::size_t{5} << 14, (std::size_t{9} << 15) - 1, std::size_t{5} << 16, std::size_t{7} << 16, (std::size_t{17} << 16) + 1})
    for (const Collective collective : {Collective::all_reduce, Collective::reduce_scatter})
      for (const std::size_t more : {0, 24}) {  // bytes
        if (collective == Collective::reduce_scatter && more != 0) continue;
        const DataType type = seed % 4 == 0 ? DataType::float32 : seed % 4 == 1 ? DataType::float16 : DataType::bfloat16;
        const std::size_t bytes = collective == Collective::reduce_scatter ? packs / static_cast<std::size_t>(count_of_ranks) * 16 : packs * 16 + more;
        const Trial trial{type, ReduceOp::sum, bytes / size_of(type), ++seed % 3 == 0, seed % 7 == 0 ? 1 : 0, seed, collective};
        CAPTURE(name_of(type), name_of(collective), trial.count, trial.in_place, trial.offset);
        CHECK(mismatches(ranks, trial) == 0);
        const Plan plan = ranks.communicators[0].plan_for({.collective = collective, .count = trial.count, .type = type});
        roomy += plan.roomy;
        wide += plan.roomy && plan.wide;
      }
  CHECK(roomy > 5);
  CHECK((pool == 0 || wide > 0));
}

TEST_CASE("of ranks whose slots hold all tiles one may have buffers that no pack can be read from", "[gpu][roomy]") {
  const int count_of_ranks = GENERATE(2, 3, 4);
  Ranks ranks(devices_for(count_of_ranks), {}, std::size_t{17} << 20);
  RankMemory shifted_in(Backend::cuda, ranks.communicators[1].device(), std::size_t{17} << 20), shifted_out(Backend::cuda, ranks.communicators[1].device(), std::size_t{17} << 20);
  std::uint64_t seed = 0;
  for (const std::size_t elements : {std::size_t{1} << 20, std::size_t{3} << 20, std::size_t{8} << 20}) {
    const Trial trial{DataType::bfloat16, ReduceOp::sum, elements, false, 0, ++seed};
    const std::size_t bytes = elements * 2;
    put(ranks, trial);
    cuda_check(cudaMemcpy(shifted_in.data() + 2, ranks.in[1].data(), bytes, cudaMemcpyDeviceToDevice));
    cuda_check(cudaDeviceSynchronize());
    for (int rank = 0; rank < count_of_ranks; ++rank)
      if (rank != 1) call(ranks, rank, trial, ranks.stream(rank));
    ranks.communicators[1].all_reduce({shifted_in.data() + 2, elements, trial.type}, {shifted_out.data() + 2, elements, trial.type}, trial.op, ranks.stream(1));
    synchronize_all(ranks);
    cuda_check(cudaMemcpy(ranks.out[1].data(), shifted_out.data() + 2, bytes, cudaMemcpyDeviceToDevice));
    CAPTURE(elements);
    CHECK(wrong_ranks(ranks, trial) == 0);
  }
}

TEST_CASE("finish waits for the calls of every stream, also of one that is gone", "[gpu][stream]") {
  Ranks ranks(devices_for(2), {}, 64 << 20);
  const Trial trial{DataType::float32, ReduceOp::sum, 16 << 20, false, 0, 11};
  put(ranks, trial);
  for (int rank = 0; rank < 2; ++rank) {
    const DeviceScope scope(ranks.communicators[static_cast<std::size_t>(rank)].device());
    cudaStream_t passing = nullptr;
    cuda_check(cudaStreamCreateWithFlags(&passing, cudaStreamNonBlocking));
    call(ranks, rank, trial, passing);
    cuda_check(cudaStreamDestroy(passing));
  }
  for (int rank = 0; rank < 2; ++rank) ranks.communicators[static_cast<std::size_t>(rank)].finish();
  CHECK(wrong_ranks(ranks, trial) == 0);
}

TEST_CASE("buffers of any origin will do", "[gpu][origin]") {
  Ranks ranks(devices_for(2), {}, 64);
  const Trial trial{DataType::float16, ReduceOp::sum, 100'003, true, 0, 3};
  const std::size_t bytes = trial.count * 2;
  std::vector<void*> buffers;
  for (int rank = 0; rank < 2; ++rank) {
    const DeviceScope scope(ranks.communicators[static_cast<std::size_t>(rank)].device());
    void* buffer = nullptr;
    cuda_check(cudaMallocAsync(&buffer, bytes + 6, ranks.stream(rank)));  // a stream-ordered pool: virtual memory peers do not map
    cuda_check(cudaStreamSynchronize(ranks.stream(rank)));
    buffers.push_back(buffer);
    const auto data = operand_bytes(trial, rank, trial.count);
    cuda_check(cudaMemcpy(static_cast<std::byte*>(buffer) + 6, data.data(), bytes, cudaMemcpyHostToDevice));
    cuda_check(cudaStreamSynchronize(nullptr));
  }
  for (int rank = 0; rank < 2; ++rank) {
    void* inside = static_cast<std::byte*>(buffers[static_cast<std::size_t>(rank)]) + 6;
    ranks.communicators[static_cast<std::size_t>(rank)].all_reduce({inside, trial.count, trial.type}, {inside, trial.count, trial.type}, trial.op, ranks.stream(rank));
  }
  synchronize_all(ranks);
  const auto expected = expected_bytes(trial, 2, trial.count);
  for (int rank = 0; rank < 2; ++rank) {
    const DeviceScope scope(ranks.communicators[static_cast<std::size_t>(rank)].device());
    std::vector<std::byte> found(bytes);
    cuda_check(cudaMemcpy(found.data(), static_cast<std::byte*>(buffers[static_cast<std::size_t>(rank)]) + 6, bytes, cudaMemcpyDeviceToHost));
    CHECK(found == expected);
    cuda_check(cudaFreeAsync(buffers[static_cast<std::size_t>(rank)], ranks.stream(rank)));
    cuda_check(cudaStreamSynchronize(ranks.stream(rank)));
  }
}

TEST_CASE("pinned and registered host memory will do, as operands and as messages to oneself", "[gpu][origin]") {
  Ranks ranks(devices_for(2), {}, 64);
  const bool registered = GENERATE(false, true);
  CAPTURE(registered);
  const Trial trial{DataType::bfloat16, ReduceOp::sum, GENERATE(std::size_t{3}, std::size_t{100'003}), false, 0, 5};
  const std::size_t bytes = trial.count * 2, page = 4096, room = (bytes + page - 1) / page * page;
  std::vector<std::byte*> buffers;  // an operand and a result a rank
  for (int i = 0; i < 4; ++i) {
    void* buffer = nullptr;
    if (registered) {
      buffer = std::aligned_alloc(page, room);
      cuda_check(cudaHostRegister(buffer, room, cudaHostRegisterDefault));
    } else {
      cuda_check(cudaMallocHost(&buffer, bytes));
    }
    buffers.push_back(static_cast<std::byte*>(buffer));
  }
  for (int rank = 0; rank < 2; ++rank) {
    const auto data = operand_bytes(trial, rank, trial.count);
    std::copy(data.begin(), data.end(), buffers[static_cast<std::size_t>(2 * rank)]);
  }
  for (int rank = 0; rank < 2; ++rank) {
    std::byte *in = buffers[static_cast<std::size_t>(2 * rank)], *out = buffers[static_cast<std::size_t>(2 * rank + 1)];
    ranks.communicators[static_cast<std::size_t>(rank)].all_reduce({in, trial.count, trial.type}, {out, trial.count, trial.type}, trial.op, ranks.stream(rank));
  }
  synchronize_all(ranks);
  const auto expected = expected_bytes(trial, 2, trial.count);
  for (int rank = 0; rank < 2; ++rank) {
    std::byte *in = buffers[static_cast<std::size_t>(2 * rank)], *out = buffers[static_cast<std::size_t>(2 * rank + 1)];
    CHECK(std::equal(expected.begin(), expected.end(), out));
    const Send send{{in, trial.count, trial.type}, rank};
    const Receive receive{{out, trial.count, trial.type}, rank};
    ranks.communicators[static_cast<std::size_t>(rank)].exchange({&send, 1}, {&receive, 1}, ranks.stream(rank));
  }
  synchronize_all(ranks);
  for (std::size_t i = 0; i < buffers.size(); i += 2) CHECK(std::equal(buffers[i], buffers[i] + bytes, buffers[i + 1]));
  for (std::byte* buffer : buffers) {
    if (registered) cuda_check(cudaHostUnregister(buffer));
    registered ? std::free(buffer) : cuda_check(cudaFreeHost(buffer));
  }
}

TEST_CASE("bad operands are refused before anything is enqueued, and the communicator stays usable", "[gpu][errors]") {
  Ranks ranks(devices_for(2), {}, 4096);
  Communicator& first = ranks.communicators[0];
  std::byte* in = ranks.in[0].data();
  std::byte* out = ranks.out[0].data();
  std::vector<float> host(64);
  const auto refused = [&](ConstBuffer from, Buffer to, ReduceOp op, const std::string& says) {
    CHECK_THROWS_WITH(first.all_reduce(from, to, op, ranks.stream(0)), ContainsSubstring(says));
  };
  const DataType type = DataType::float32;
  refused({nullptr, 8, type}, {out, 8, type}, ReduceOp::sum, "in is null: expected memory of CUDA device");
  refused({host.data(), 8, type}, {out, 8, type}, ReduceOp::sum, "in is host memory: expected memory of CUDA device");
  refused({in, 8, type}, {host.data(), 8, type}, ReduceOp::sum, "out is host memory");
  refused({in + 2, 8, type}, {out, 8, type}, ReduceOp::sum, "aligned to the 4 bytes of a float");
  refused({in, 8, type}, {in + 16, 8, type}, ReduceOp::sum, "in and out overlap");
  refused({in, 8, type}, {out, 9, type}, ReduceOp::sum, "out has 9 elements: expected 8");
  refused({in, 8, static_cast<DataType>(99)}, {out, 8, static_cast<DataType>(99)}, ReduceOp::sum, "type 99 is unknown");
  refused({in, 8, type}, {out, 8, type}, static_cast<ReduceOp>(17), "operation 17 is unknown");
  if (cuda_device_count() > 1) refused({ranks.in[1].data(), 8, type}, {out, 8, type}, ReduceOp::sum, "in is on CUDA device 1: expected device 0");
  cuda_check(cudaStreamBeginCapture(ranks.stream(0), cudaStreamCaptureModeGlobal));
  CHECK_THROWS_WITH(first.synchronize(ranks.stream(0)), ContainsSubstring("being captured"));
  cudaGraph_t graph = nullptr;
  cuda_check(cudaStreamEndCapture(ranks.stream(0), &graph));
  cuda_check(cudaGraphDestroy(graph));
  CHECK(mismatches(ranks, {DataType::float32, ReduceOp::sum, 500, false, 0, 5}) == 0);
  CHECK_THROWS_WITH(Communicator::create_local({0, cuda_device_count()}), ContainsSubstring("expected 0 to"));
}

TEST_CASE("ranks that share a GPU cannot use its default stream, and are told so", "[gpu][errors]") {
  Ranks ranks({0, 0}, {}, 4096);
  CHECK_THROWS_WITH(ranks.communicators[0].all_reduce({ranks.in[0].data(), 8, DataType::float32}, {ranks.out[0].data(), 8, DataType::float32}, ReduceOp::sum),
                    ContainsSubstring("give each rank a stream"));
  CHECK(mismatches(ranks, {DataType::float32, ReduceOp::sum, 500, false, 0, 5}) == 0);
}

TEST_CASE("a rank that never calls is named when the deadline has passed", "[gpu][failure]") {
  Ranks ranks(devices_for(3), short_deadline(), 4096);
  const Trial trial{DataType::float32, ReduceOp::sum, 100, false, 0, 1};
  put(ranks, trial);
  call(ranks, 0, trial, ranks.stream(0));
  call(ranks, 2, trial, ranks.stream(2));
  for (const std::size_t rank : {0u, 2u}) {
    CHECK_THROWS_WITH(ranks.communicators[rank].synchronize(ranks.stream(static_cast<int>(rank))), ContainsSubstring("rank 1"));
    CHECK_THROWS_AS(call(ranks, static_cast<int>(rank), trial, ranks.stream(static_cast<int>(rank))), Error);
  }
}

TEST_CASE("a rank that never comes to what only moves is named, and so is the call, whichever kernel waits", "[gpu][failure]") {
  constexpr int absent = 1;
  struct Move {
    Collective collective;
    const char* algorithm;
    int root;
    std::size_t bytes;  ///< a pack a thread, or more tiles than there are slots
  };
  constexpr std::size_t few = 4096, many = std::size_t{24} << 20;
  const auto move = GENERATE_COPY(Move{Collective::all_gather, "one_shot", 0, few}, Move{Collective::all_gather, "one_shot", 0, many},
                                  Move{Collective::broadcast, "one_shot", absent, few}, Move{Collective::broadcast, "two_shot", 0, many},
                                  Move{Collective::broadcast, "two_shot", absent, many});
  const std::size_t bytes = move.bytes;
  Options options = short_deadline();
  options.algorithm = parse_algorithm(move.algorithm);
  options.pool_bytes = 16 << 20;
  Ranks ranks(devices_for(3), options, 3 * bytes);
  const Plan plan = ranks.communicators[0].plan_for({.collective = move.collective, .count = bytes, .type = DataType::uint8, .root = move.root});
  CAPTURE(name_of(move.collective), move.algorithm, move.root, bytes, plan.blocks, plan.tile_bytes);
  REQUIRE((plan.direct && plan.wire == Wire::escaped && plan.wide == (bytes == many)));
  const auto enqueue = [&](int rank) {
    const auto r = static_cast<std::size_t>(rank);
    const ConstBuffer in{ranks.in[r].data(), bytes, DataType::uint8};
    if (move.collective == Collective::broadcast) return ranks.communicators[r].broadcast(in, {ranks.out[r].data(), bytes, DataType::uint8}, move.root, ranks.stream(rank));
    ranks.communicators[r].all_gather(in, {ranks.out[r].data(), 3 * bytes, DataType::uint8}, ranks.stream(rank));
  };
  for (int rank = 0; rank < 3; ++rank) enqueue(rank);
  synchronize_all(ranks);
  for (const int rank : {0, 2}) enqueue(rank);
  for (const int rank : {0, 2}) {
    CHECK_THROWS_WITH(ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank)), ContainsSubstring("call 1: ") && ContainsSubstring("rank 1 did not come"));
    CHECK_THROWS_AS(enqueue(rank), Error);
  }
}

TEST_CASE("a rank that never comes to a sum is named, and so is the call, whichever kernel waits", "[gpu][failure]") {
  enum class Waits { in_crews, with_room, in_many_tiles };
  const Waits waits = GENERATE(Waits::in_crews, Waits::with_room, Waits::in_many_tiles);
  const Variable peers("COLLECTIVES_P2P", waits == Waits::in_crews ? "off" : "auto");
  const std::size_t count = std::size_t{waits == Waits::in_many_tiles ? 12u : waits == Waits::with_room ? 2u : 4u} << 20;
  Options options = short_deadline();
  options.pool_bytes = std::size_t{waits == Waits::with_room ? 64u : 24u} << 20;
  Ranks ranks(devices_for(3), options, 2 * count);
  const Plan plan = ranks.communicators[0].plan_for(count, DataType::bfloat16, ReduceOp::sum);
  REQUIRE((plan.crews > 1) == (waits == Waits::in_crews));
  REQUIRE(plan.roomy == (waits == Waits::with_room));
  const Trial trial{.type = DataType::bfloat16, .count = count, .seed = 1};
  for (int rank = 0; rank < 3; ++rank) call(ranks, rank, trial, ranks.stream(rank));
  synchronize_all(ranks);
  for (const int rank : {0, 2}) call(ranks, rank, trial, ranks.stream(rank));
  for (const int rank : {0, 2}) {
    CHECK_THROWS_WITH(ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank)), ContainsSubstring("call 1: ") && ContainsSubstring("rank 1 did not come"));
    CHECK_THROWS_AS(call(ranks, rank, trial, ranks.stream(rank)), Error);
  }
}

TEST_CASE("different calls are a mismatch on the ranks that made them", "[gpu][failure]") {
  struct Deviation {
    DataType type;
    ReduceOp op;
    std::size_t count;
  };
  const auto deviation = GENERATE(Deviation{DataType::float32, ReduceOp::sum, 99}, Deviation{DataType::bfloat16, ReduceOp::sum, 100},
                                  Deviation{DataType::float32, ReduceOp::max, 100}, Deviation{DataType::int32, ReduceOp::sum, 100},
                                  Deviation{DataType::float32, ReduceOp::sum, 2'000'000});
  CAPTURE(name_of(deviation.type), name_of(deviation.op), deviation.count);
  Ranks ranks(devices_for(2), short_deadline(), 8 << 20);
  call(ranks, 0, {DataType::float32, ReduceOp::sum, 100}, ranks.stream(0));
  call(ranks, 1, {deviation.type, deviation.op, deviation.count}, ranks.stream(1));
  for (int rank = 0; rank < 2; ++rank)
    CHECK_THROWS_WITH(ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank)),
                      ContainsSubstring("rank " + std::to_string(1 - rank)) && ContainsSubstring("different call"));
}

TEST_CASE("abort ends the running calls of all ranks", "[gpu][failure]") {
  Ranks ranks(devices_for(3), {}, 4096);
  const Trial trial{DataType::float32, ReduceOp::sum, 100, false, 0, 1};
  call(ranks, 0, trial, ranks.stream(0));
  call(ranks, 1, trial, ranks.stream(1));
  ranks.communicators[0].abort();
  CHECK_THROWS_WITH(ranks.communicators[0].synchronize(ranks.stream(0)), ContainsSubstring("abort"));
  CHECK_THROWS_WITH(ranks.communicators[1].synchronize(ranks.stream(1)), ContainsSubstring("rank 0 reports that it aborted"));
}

TEST_CASE("barrier waits for every rank", "[gpu][barrier]") {
  Ranks ranks(devices_for(2), short_deadline(), 4096);
  for (int rank = 0; rank < 2; ++rank) ranks.communicators[static_cast<std::size_t>(rank)].barrier(ranks.stream(rank));
  synchronize_all(ranks);
  ranks.communicators[0].barrier(ranks.stream(0));
  CHECK_THROWS_WITH(ranks.communicators[0].synchronize(ranks.stream(0)), ContainsSubstring("rank 1 did not come"));
}

TEST_CASE("counts beyond 2^31 elements", "[gpu][.slow]") {
  const std::size_t count = (std::size_t{1} << 31) + 5;
  std::vector<Communicator> ranks = Communicator::create_local(devices_for(2));
  std::vector<RankMemory> buffers;
  for (const Communicator& rank : ranks) {
    const DeviceScope scope(rank.device());
    cuda_check(cudaMemset(buffers.emplace_back(Backend::cuda, rank.device(), count).data(), rank.rank() + 1, count));
    cuda_check(cudaDeviceSynchronize());
  }
  for (std::size_t rank = 0; rank < 2; ++rank)
    ranks[rank].all_reduce({buffers[rank].data(), count, DataType::int8}, {buffers[rank].data(), count, DataType::int8}, ReduceOp::sum);
  for (Communicator& rank : ranks) rank.synchronize();
  for (const RankMemory& buffer : buffers) {
    const auto bytes = buffer.read(count);
    CHECK(std::count(bytes.begin(), bytes.end(), std::byte{3}) == static_cast<std::ptrdiff_t>(count));
  }
}

namespace {

std::size_t number_in(const char* variable, std::size_t otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// Back-to-back calls, filled and checked on the devices, of which a graph holds many and some between its replays are enqueued one by one.
class Soak {
 public:
  Soak(int ranks, std::size_t most_elements, const Options& options) : ranks_(devices_for(ranks), options, most_elements * sizeof(float)) {
    for (int rank = 0; rank < ranks; ++rank) {
      const auto r = static_cast<std::size_t>(rank);
      const DeviceScope scope(ranks_.communicators[r].device());
      SoakSide::Counters* counters = nullptr;
      cuda_check(cudaMalloc(reinterpret_cast<void**>(&counters), sizeof *counters));
      cuda_check(cudaMemset(counters, 0, sizeof *counters));
      sides_.push_back({reinterpret_cast<float*>(ranks_.in[r].data()), reinterpret_cast<float*>(ranks_.out[r].data()), counters, rank, ranks});
    }
  }
  ~Soak() {
    for (const SoakSide& side : sides_) cudaFree(side.counters);
  }
  Soak(const Soak&) = delete;
  Soak& operator=(const Soak&) = delete;

  void run(std::span<const SoakCall> turns, std::size_t calls) {
    constexpr std::size_t rounds = 12, replays_a_turn = 16;
    const auto graphs = capture(ranks_, [&](int rank) {
      for (std::size_t round = 0; round < rounds; ++round) enqueue(rank, turns);
    });
    for (std::size_t done = 0; done < calls; done += turns.size()) {
      for (std::size_t turn = 0; turn < replays_a_turn && done < calls; ++turn, done += rounds * turns.size()) replay(ranks_, graphs);
      for (int rank = 0; rank < ranks_.size(); ++rank) enqueue(rank, turns);
      synchronize_all(ranks_);
    }
    forget(graphs);
  }

  /// What a rank has counted so far.
  SoakSide::Counters counted(int rank) const {
    SoakSide::Counters counters{};
    cuda_check(cudaMemcpy(&counters, sides_[static_cast<std::size_t>(rank)].counters, sizeof counters, cudaMemcpyDeviceToHost));
    return counters;
  }

 private:
  void enqueue(int rank, std::span<const SoakCall> turns) {
    const SoakSide& side = sides_[static_cast<std::size_t>(rank)];
    Communicator& communicator = ranks_.communicators[static_cast<std::size_t>(rank)];
    const DeviceScope scope(communicator.device());
    const Stream stream = ranks_.stream(rank);
    for (const SoakCall& what : turns) {
      launch_soak_fill(side, what, stream);
      const ConstBuffer in{side.in, what.collective == Collective::broadcast && rank != what.root ? 0 : what.in_count(side.ranks), what.type};
      const Buffer out{side.out, what.out_count(side.ranks), what.type};
      if (what.collective == Collective::all_reduce) communicator.all_reduce(in, out, ReduceOp::sum, stream);
      if (what.collective == Collective::reduce_scatter) communicator.reduce_scatter(in, out, ReduceOp::sum, stream);
      if (what.collective == Collective::all_gather) communicator.all_gather(in, out, stream);
      if (what.collective == Collective::broadcast) communicator.broadcast(in, out, what.root, stream);
      launch_soak_check(side, what, stream);
    }
  }

  Ranks ranks_;
  std::vector<SoakSide> sides_;
};

/// As many calls as SOAK_CALLS says of each class, half of them over each wrap of the epoch. A class is one call and some beside it that take other grids, tails and plans.
template <typename Turns>
void soak_classes(std::span<const std::size_t> classes, Turns turns_of) {
  const std::size_t calls = number_in("SOAK_CALLS", 20'000);
  const int ranks = static_cast<int>(number_in("SOAK_RANKS", static_cast<std::size_t>(std::max(2, cuda_device_count()))));
  for (const std::size_t elements : classes)
    for (const std::uint32_t first : {0x7fffffffu - 5000u, 0xffffffffu - 5000u}) {
      const std::vector<SoakCall> turns = turns_of(elements, ranks);
      std::size_t most = 0;
      for (const SoakCall& what : turns) most = std::max({most, what.in_count(ranks), what.out_count(ranks)});
      Options options;
      options.first_epoch = first;
      Soak soak(ranks, most, options);
      soak.run(turns, calls / 2);
      std::uint32_t fewest = UINT32_MAX;
      unsigned long long wrong = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        fewest = std::min(fewest, soak.counted(rank).calls);
        wrong += soak.counted(rank).wrong;
      }
      WARN(ranks << " ranks, " << elements * sizeof(float) << " bytes, from epoch " << first << ": " << fewest << " calls, " << wrong << " elements wrong");
      CHECK(fewest >= calls / 2);
      CHECK(wrong == 0);
    }
}

}  // namespace

// A library built with COLLECTIVES_STALLS rests between any two touches of what ranks share.
TEST_CASE("back-to-back calls with data that change per call, across both wraps of the epoch", "[gpu][.soak]") {
  constexpr std::size_t classes[] = {256, 2048, 16'384, 65'536, 262'144, 1'048'576};
  soak_classes(classes, [](std::size_t elements, int) {
    std::vector<SoakCall> turns;
    for (const std::size_t count : {elements, elements + 1, elements - elements / 3, std::size_t{3}, elements / 2 + 4, elements}) turns.push_back({Collective::all_reduce, count});
    return turns;
  });
}

TEST_CASE("back-to-back calls of every direct kernel in turns, with data that change per call, across both wraps of the epoch", "[gpu][.soak_kernels]") {
  // 8 KB, 1 MB, and of four ranks what goes in phases and in a stream of tiles.
  constexpr std::size_t classes[] = {2048, 262'144, 2'097'152, 8'388'608};
  soak_classes(classes, [](std::size_t elements, int ranks) {
    const std::size_t block = elements / static_cast<std::size_t>(ranks);
    return std::vector<SoakCall>{{Collective::all_gather, block},         {Collective::broadcast, elements, ranks - 1}, {Collective::reduce_scatter, block / 4 * 4},
                                 {Collective::all_reduce, elements - 5},  {Collective::all_gather, block / 3 + 1},      {Collective::broadcast, elements / 2 + 7, 0},
                                 {Collective::all_reduce, elements / 64}, {Collective::reduce_scatter, block / 8 * 4},
                                 {Collective::all_reduce, elements + 1, 0, DataType::int32}, {Collective::reduce_scatter, block / 4 * 4, 0, DataType::int32}};
  });
}
