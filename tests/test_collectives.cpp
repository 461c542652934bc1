// The contract of every collective: any count, alignment, type, operation and root, in place or not, on 1 to 16 ranks.
#include <atomic>
#include <cstring>
#include <random>

#include "in_parts.hpp"
#include "kernels/number.hpp"
#include "kernels/wire.hpp"
#include "planner/schedule.hpp"
#include "ranks.hpp"
#include "test.hpp"
#include "trial.hpp"

#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

using namespace collectives;

namespace {

constexpr std::size_t sizes[] = {0, 1, 2, 3, 7, 8, 16, 17, 31, 127, 257, 1031};

/// Trial number `seed` of a run that passes through everything there is to choose.
Trial trial_of(std::uint64_t seed, int ranks) {
  std::mt19937_64 random(seed);
  Trial trial;
  trial.collective = static_cast<Collective>(seed % collective_count);
  trial.type = static_cast<DataType>(random() % data_type_count);
  trial.op = static_cast<ReduceOp>(random() % reduce_op_count);
  trial.count = sizes[random() % std::size(sizes)];
  trial.in_place = random() % 2 == 0;
  trial.offset = static_cast<int>(random() % 3);
  trial.seed = seed;
  trial.root = static_cast<int>(random() % static_cast<std::uint64_t>(ranks));
  trial.uneven = random() % 2 == 0 && (trial.collective == Collective::all_gather || trial.collective == Collective::reduce_scatter);
  return trial;
}

std::string described(const Trial& trial) {
  return std::string(name_of(trial.collective)) + (trial.uneven ? " uneven " : " ") + name_of(trial.type) + " " + name_of(trial.op) + " x " + std::to_string(trial.count) +
         (trial.in_place ? ", in place" : "") + ", offset " + std::to_string(trial.offset) + ", root " + std::to_string(trial.root) + ", seed " + std::to_string(trial.seed);
}

Options small_host(int ranks) {
  Options options;
  options.backend = Backend::host;
  options.pool_bytes = static_cast<std::size_t>(ranks) << 20;  // slots of 128 KB a half, the least
  options.first_epoch = 0xffffffc0u;                                  // every run crosses the wrap
  return options;
}

void try_mixed(Ranks& group, int trials, std::uint64_t first_seed) {
  for (std::uint64_t seed = first_seed; seed < first_seed + static_cast<std::uint64_t>(trials); ++seed) {
    const Trial trial = trial_of(seed, group.size());
    const std::size_t wrong = mismatches(group, trial);
    if (wrong != 0) {
      CAPTURE(group.size(), described(trial));
      CHECK(wrong == 0);
    }
  }
  CHECK(trials > 0);
}

/// Blocks of several times the slots, odd lengths, every algorithm that the collective has.
void try_large(Ranks& group, std::size_t bytes) {
  std::uint64_t seed = 77;
  for (int c = 0; c < collective_count; ++c)
    for (const DataType type : {DataType::bfloat16, DataType::int32}) {
      ++seed;
      Trial trial{.type = type, .count = bytes / size_of(type) + 3, .in_place = seed % 2 == 0, .offset = static_cast<int>(seed % 2), .seed = seed, .collective = static_cast<Collective>(c)};
      trial.root = static_cast<int>(seed % static_cast<std::uint64_t>(group.size()));
      CAPTURE(group.size(), described(trial));
      CHECK(mismatches(group, trial) == 0);
    }
}

}  // namespace

TEST_CASE("every collective is exact, mixed with the others call after call, on few host threads", "[comm][host][collectives]") {
  const int ranks = GENERATE(1, 2, 3, 5);
  Ranks group(counted(ranks), small_host(ranks), std::size_t{16} * 1040 * 8);
  try_mixed(group, 360, static_cast<std::uint64_t>(ranks) * 20'000);
}

TEST_CASE("every collective is exact, mixed with the others call after call, on any number of host threads", "[comm][host][collectives][heavy]") {
  const int ranks = GENERATE(range(2, 17));
  Ranks group(counted(ranks), small_host(ranks), std::size_t{16} * 1040 * 8);
  try_mixed(group, ranks <= 4 ? 900 : ranks <= 8 ? 360 : 180, static_cast<std::uint64_t>(ranks) * 10'000);
}

TEST_CASE("every algorithm of every collective is exact, within the slots and far beyond them, on host threads", "[comm][host][collectives][heavy]") {
  const int ranks = GENERATE(2, 3, 5);
  for (const AlgorithmChoice choice : algorithms_of(Collective::broadcast)) {
    Options options = small_host(ranks);
    options.algorithm = choice;
    Ranks group(counted(ranks), options, static_cast<std::size_t>(ranks) * ((350u << 10) + 64));
    CAPTURE(to_string(choice));
    try_large(group, 350 << 10);
    try_mixed(group, 90, 5);
  }
}

TEST_CASE("ranks that are processes have the same collectives", "[comm][host][collectives][processes]") {
  const int ranks = GENERATE(1, 2, 5);
  const UniqueId id = make_unique_id();
  const auto outcomes = run_ranks(RanksAre::processes, ranks, [&](int rank) {
    auto communicator = Communicator::create(id, rank, ranks, small_host(ranks));
    for (std::uint64_t seed = 0; seed < 120; ++seed) {
      const Trial trial = trial_of(seed, ranks);
      if (own_mismatches(communicator, trial) != 0) throw Error(ErrorCode::internal, described(trial));
    }
  });
  CHECK(outcomes == std::vector<std::string>(static_cast<std::size_t>(ranks), "ok"));
}

TEST_CASE("what is only moved arrives bit for bit, not a number among it", "[comm][host][collectives]") {
  const int ranks = GENERATE(2, 3);
  std::vector<std::uint32_t> words = {0xffffffffu, 0x7fc00001u, 0xffc0dead, 0x80000000u, 0u, 0x7f800000u, 0x00000001u, 0x7fffffffu, 0xffffu};
  for (const auto& wire : {std::optional<Wire>{}, std::optional(Wire::sentinel)}) {
    Options options = small_host(ranks);
    options.wire = wire;
    auto communicators = Communicator::create_local(counted(ranks), options);
    std::vector<std::vector<std::uint32_t>> out(communicators.size(), std::vector<std::uint32_t>(words.size() * communicators.size()));
    for (std::size_t r = 0; r < communicators.size(); ++r)
      communicators[r].all_gather({words.data(), words.size(), DataType::float32}, {out[r].data(), out[r].size(), DataType::float32});
    for (auto& communicator : communicators) communicator.synchronize();
    for (const auto& result : out)
      for (std::size_t i = 0; i < result.size(); ++i) CHECK(result[i] == words[i % words.size()]);
  }
}

TEST_CASE("a reduce-scatter and a reduce have the bits of an all-reduce", "[comm][host][collectives]") {
  const int ranks = GENERATE(3, 8);
  Options options = small_host(ranks);
  options.invariant = true;
  auto communicators = Communicator::create_local(counted(ranks), options);
  const std::size_t block = 1237, total = block * static_cast<std::size_t>(ranks);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> in(communicators.size()), all(communicators.size(), std::vector<float>(total)), part(communicators.size(), std::vector<float>(block));
  std::vector<float> reduced(total);
  for (auto& values : in)
    for (std::size_t i = 0; i < total; ++i) values.push_back(normal(random));
  for (std::size_t r = 0; r < communicators.size(); ++r) {
    communicators[r].all_reduce({in[r].data(), total, DataType::float32}, {all[r].data(), total, DataType::float32}, ReduceOp::sum);
    communicators[r].reduce_scatter({in[r].data(), total, DataType::float32}, {part[r].data(), block, DataType::float32}, ReduceOp::sum);
    communicators[r].reduce({in[r].data(), total, DataType::float32}, {r == 1 ? reduced.data() : nullptr, total, DataType::float32}, ReduceOp::sum, 1);
  }
  for (auto& communicator : communicators) communicator.synchronize();
  CHECK(std::memcmp(reduced.data(), all[0].data(), total * sizeof(float)) == 0);
  for (std::size_t r = 0; r < communicators.size(); ++r) CHECK(std::memcmp(part[r].data(), all[0].data() + r * block, block * sizeof(float)) == 0);
}

TEST_CASE("a rank that contributes nothing gets what the others make", "[comm][host][collectives][nothing]") {
  const int ranks = GENERATE(2, 3, 7);
  auto communicators = Communicator::create_local(counted(ranks), small_host(ranks));
  for (int type = 0; type < data_type_count; ++type)
    for (int op = 0; op < reduce_op_count; ++op)
      for (const std::size_t count : {1u, 5u, 3000u}) {
        const Trial trial{.type = static_cast<DataType>(type), .op = static_cast<ReduceOp>(op), .count = count, .seed = count};
        if (trial.op == ReduceOp::avg) continue;  // the reference below divides by those who contribute
        const int absent = static_cast<int>(count) % ranks;
        // What the ranks before and after the absent one make, as the trial of one rank fewer would.
        std::vector<std::vector<std::byte>> in, out;
        std::vector<std::byte> expected = operand_bytes(trial, 0, count);
        for (int rank = 0; rank < ranks; ++rank) {
          in.push_back(operand_bytes(trial, rank < absent ? rank : rank - 1 < 0 ? 0 : rank - 1, count));
          out.push_back(std::vector<std::byte>(in.back().size(), std::byte{0x55}));
        }
        if (ranks > 2) expected = expected_bytes(trial, ranks - 1, count);
        for (int rank = 0; rank < ranks; ++rank) {
          const auto r = static_cast<std::size_t>(rank);
          const Buffer to{out[r].data(), count, trial.type};
          if (rank == absent) communicators[r].all_reduce_nothing(to, trial.op);
          if (rank != absent) communicators[r].all_reduce({in[r].data(), count, trial.type}, to, trial.op);
        }
        for (auto& communicator : communicators) communicator.synchronize();
        CAPTURE(ranks, name_of(trial.type), name_of(trial.op), count, absent);
        for (const auto& result : out) CHECK(result == expected);
      }
}

TEST_CASE("a sum to which a rank contributes nothing keeps the sign of zero", "[comm][host][collectives][nothing]") {
  auto communicators = Communicator::create_local(counted(2), small_host(2));
  for (const float only : {-0.0f, 0.0f}) {
    float out[2] = {7, 7};
    communicators[0].all_reduce_nothing({&out[0], 1, DataType::float32}, ReduceOp::sum);
    communicators[1].all_reduce({&only, 1, DataType::float32}, {&out[1], 1, DataType::float32}, ReduceOp::sum);
    for (auto& communicator : communicators) communicator.synchronize();
    for (const float result : out) CHECK(std::memcmp(&result, &only, sizeof only) == 0);
  }
}

TEST_CASE("floats carried narrower are the narrow all-reduce of the rounded operands, widened", "[comm][host][collectives][carried]") {
  const int ranks = GENERATE(2, 5);
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  for (const AlgorithmChoice choice : algorithms_of(Collective::all_reduce)) {
    Options options = small_host(ranks);
    options.wire = wire;
    options.algorithm = choice;
    auto communicators = Communicator::create_local(counted(ranks), options);
    for (const std::size_t count : {1u, 7u, 8u, 9u, 4096u, 50'003u}) {
      std::mt19937 random(static_cast<unsigned>(count));
      std::normal_distribution<float> normal;
      std::vector<std::vector<float>> in(communicators.size(), std::vector<float>(count)), out = in;
      std::vector<std::vector<std::uint16_t>> narrow_in(communicators.size(), std::vector<std::uint16_t>(count)), narrow = narrow_in;
      for (std::size_t r = 0; r < in.size(); ++r)
        for (std::size_t i = 0; i < count; ++i) {
          in[r][i] = normal(random);
          narrow_in[r][i] = kernels::to_bfloat16(in[r][i]).bits;
        }
      const bool in_place = count % 2 == 1;
      for (std::size_t r = 0; r < in.size(); ++r) {
        communicators[r].all_reduce({narrow_in[r].data(), count, DataType::bfloat16}, {narrow[r].data(), count, DataType::bfloat16}, ReduceOp::avg);
        float* to = in_place ? in[r].data() : out[r].data();
        communicators[r].all_reduce({in[r].data(), count, DataType::float32}, {to, count, DataType::float32}, ReduceOp::avg, DataType::bfloat16);
      }
      for (auto& communicator : communicators) communicator.synchronize();
      std::size_t wrong = 0;
      for (std::size_t r = 0; r < in.size(); ++r)
        for (std::size_t i = 0; i < count; ++i) wrong += (in_place ? in : out)[r][i] != kernels::to_float(kernels::BFloat16{narrow[r][i]});
      CAPTURE(ranks, name_of(wire), to_string(choice), count, in_place);
      CHECK(wrong == 0);
    }
    float one = 1;
    std::int32_t whole = 1;
    CHECK_THROWS_WITH(communicators[0].all_reduce({&one, 1, DataType::float32}, {&one, 1, DataType::float32}, ReduceOp::sum, DataType::int8), ContainsSubstring("expected half or bfloat16"));
    CHECK_THROWS_WITH(communicators[0].all_reduce({&whole, 1, DataType::int32}, {&whole, 1, DataType::int32}, ReduceOp::sum, DataType::float16), ContainsSubstring("expected float32"));
  }
}

TEST_CASE("a scaled sum is the sum of the scaled operands", "[comm][host][collectives][scaled]") {
  const int ranks = GENERATE(1, 2, 5);
  const auto wire = GENERATE(Wire::flagged, Wire::sentinel);
  Options options = small_host(ranks);
  options.wire = wire;
  auto communicators = Communicator::create_local(counted(ranks), options);
  for (int type = 0; type < data_type_count; ++type)
    for (const std::size_t block : {1u, 9u, 4'003u})
      for (const bool on_device : {false, true}) {
        const auto data_type = static_cast<DataType>(type);
        const std::size_t size = size_of(data_type), count = block * communicators.size();
        const Trial trial{.type = data_type, .count = count, .seed = block};
        // Twice the operand is what two ranks of it make: small integers, exact in every type.
        std::vector<std::vector<std::byte>> in, all, part, doubled;
        std::vector<std::byte> two = operand_bytes(trial, 0, 1), reduced(count * size);
        write_element(two.data(), data_type, 2);
        for (int rank = 0; rank < ranks; ++rank) {
          in.push_back(operand_bytes(trial, rank, count));
          all.push_back(in.back());
          part.emplace_back(block * size);
          doubled.emplace_back(count * size);
          for (std::size_t i = 0; i < count; ++i) write_element(doubled.back().data() + i * size, data_type, 2 * operand(trial, rank, i));
        }
        for (int rank = 0; rank < ranks; ++rank) {
          const auto r = static_cast<std::size_t>(rank);
          const ScaledSum sum{two.data(), on_device};
          communicators[r].all_reduce({all[r].data(), count, data_type}, {all[r].data(), count, data_type}, sum);
          communicators[r].reduce_scatter({in[r].data(), count, data_type}, {part[r].data(), block, data_type}, sum);
          communicators[r].reduce({in[r].data(), count, data_type}, {rank == ranks - 1 ? reduced.data() : nullptr, count, data_type}, sum, ranks - 1);
          communicators[r].all_reduce({doubled[r].data(), count, data_type}, {doubled[r].data(), count, data_type}, ReduceOp::sum);
        }
        for (auto& communicator : communicators) communicator.synchronize();
        CAPTURE(ranks, name_of(wire), name_of(data_type), block, on_device);
        CHECK(reduced == doubled[0]);
        for (std::size_t r = 0; r < all.size(); ++r) {
          CHECK(all[r] == doubled[r]);
          CHECK(std::memcmp(part[r].data(), doubled[r].data() + r * block * size, block * size) == 0);
        }
      }
}

TEST_CASE("a scaled sum rounds its product, needs a factor, and does not match a plain one", "[comm][host][collectives][scaled]") {
  auto communicators = Communicator::create_local(counted(2), small_host(2));
  // 1 + 2^-7 squared is 1 + 2^-6 + 2^-14: bfloat16 has no room for the last, whatever the sum could hold.
  const auto one_up = kernels::to_bfloat16(1.0078125f);
  kernels::BFloat16 in[2] = {one_up, one_up}, out[2] = {};
  for (std::size_t r = 0; r < 2; ++r) communicators[r].all_reduce({&in[r], 1, DataType::bfloat16}, {&out[r], 1, DataType::bfloat16}, ScaledSum{&one_up, false});
  for (auto& communicator : communicators) communicator.synchronize();
  for (const auto& result : out) CHECK(kernels::to_float(result) == 2.03125f);
  CHECK_THROWS_WITH(communicators[0].all_reduce({in, 1, DataType::bfloat16}, {out, 1, DataType::bfloat16}, ScaledSum{}), ContainsSubstring("factor is null"));
  communicators[0].all_reduce({&in[0], 1, DataType::bfloat16}, {&out[0], 1, DataType::bfloat16}, ScaledSum{&one_up, false});
  communicators[1].all_reduce({&in[1], 1, DataType::bfloat16}, {&out[1], 1, DataType::bfloat16}, ReduceOp::sum);
  CHECK_THROWS_WITH(communicators[0].synchronize(), ContainsSubstring("different call"));
}

TEST_CASE("arguments that cannot be meant are refused before anything moves", "[comm][host][collectives]") {
  auto communicators = Communicator::create_local(counted(2), small_host(2));
  Communicator& one = communicators[0];
  alignas(16) std::byte memory[256] = {};
  const auto in = [&](std::size_t count) { return ConstBuffer{memory, count, DataType::float32}; };
  const auto out = [&](std::size_t count) { return Buffer{memory + 128, count, DataType::float32}; };
  const std::vector<std::size_t> counts = {3, 5}, three = {1, 2, 3};
  CHECK_THROWS_WITH(one.reduce_scatter(in(7), out(4), ReduceOp::sum), ContainsSubstring("every rank's block"));
  CHECK_THROWS_WITH(one.reduce_scatter(in(8), out(4), counts, ReduceOp::sum), ContainsSubstring("this rank's block"));
  CHECK_THROWS_WITH(one.reduce_scatter(in(8), out(4), static_cast<ReduceOp>(9)), ContainsSubstring("operation 9"));
  CHECK_THROWS_WITH(one.all_gather(in(4), out(7)), ContainsSubstring("every rank's block"));
  CHECK_THROWS_WITH(one.all_gather(in(3), out(8), three), ContainsSubstring("one for each of the 2 ranks"));
  CHECK_THROWS_WITH(one.all_gather({memory + 4, 4, DataType::float32}, {memory, 8, DataType::float32}), ContainsSubstring("overlap"));
  CHECK_THROWS_WITH(one.broadcast(in(4), out(5), 0), ContainsSubstring("as many as out"));
  CHECK_THROWS_WITH(one.broadcast(in(4), out(4), 2), ContainsSubstring("expected a rank"));
  CHECK_THROWS_WITH(one.broadcast(in(4), {nullptr, 4, DataType::float32}, 1), ContainsSubstring("null"));
  CHECK_THROWS_WITH(one.reduce(in(4), {memory + 128, 4, DataType::int32}, ReduceOp::sum, 0), ContainsSubstring("same type"));
  CHECK_THROWS_WITH(one.reduce(in(4), out(4), ReduceOp::sum, -1), ContainsSubstring("expected a rank"));
  CHECK_THROWS_WITH(one.all_to_all(in(5), out(5)), ContainsSubstring("a block for each rank"));
  CHECK_THROWS_WITH(one.all_to_all(in(4), {memory, 4, DataType::float32}), ContainsSubstring("cannot work in place"));
  CHECK_THROWS_WITH(one.gather({memory + 2, 4, DataType::float32}, out(8), 0), ContainsSubstring("aligned"));
  CHECK_THROWS_WITH(one.gather(in(4), out(4), 0), ContainsSubstring("every rank's block"));
  CHECK_THROWS_WITH(one.scatter(in(4), out(4), 0), ContainsSubstring("every rank's block"));
  CHECK_THROWS_WITH(one.scatter({memory, SIZE_MAX / 8, DataType::float32}, out(SIZE_MAX / 16), 0), ContainsSubstring("larger than any memory"));
  const Send send{in(4), 1}, nowhere{in(4), 2}, own{in(4), 0};
  CHECK_THROWS_WITH(one.exchange(std::vector<Send>{nowhere}, {}), ContainsSubstring("names rank 2"));
  CHECK_THROWS_WITH(one.exchange({}, std::vector<Receive>{{out(4), -1}}), ContainsSubstring("names rank -1"));
  CHECK_THROWS_WITH(one.exchange(std::vector<Send>(97, send), {}), ContainsSubstring("97 sends and receives"));
  CHECK_THROWS_WITH(one.exchange(std::vector<Send>{own}, {}), ContainsSubstring("itself 16 bytes and receives none"));
  CHECK_THROWS_WITH(one.exchange(std::vector<Send>{own}, std::vector<Receive>{{out(3), 0}}), ContainsSubstring("itself 16 bytes and receives 12"));
  CHECK_THROWS_AS(one.plan_for({.collective = Collective::gather, .count = 1, .root = 7}), Error);
  // And the communicator still works.
  for (std::size_t r = 0; r < 2; ++r) communicators[r].broadcast({memory, 4, DataType::float32}, {memory + 128 + 64 * r, 4, DataType::float32}, 0);
  for (auto& communicator : communicators) CHECK_NOTHROW(communicator.synchronize());
}

TEST_CASE("different calls are a mismatch on both ranks", "[comm][host][collectives][failure]") {
  alignas(16) static std::byte memory[2][512];
  using Make = void (*)(Communicator&, std::byte*);
  const std::pair<Make, Make> pairs[] = {
      {[](Communicator& c, std::byte* m) { c.broadcast({m, 8, DataType::float32}, {m + 256, 8, DataType::float32}, 0); },
       [](Communicator& c, std::byte* m) { c.broadcast({m, 8, DataType::float32}, {m + 256, 8, DataType::float32}, 1); }},
      {[](Communicator& c, std::byte* m) { c.all_gather({m, 8, DataType::float32}, {m + 256, 16, DataType::float32}); },
       [](Communicator& c, std::byte* m) { c.all_to_all({m, 16, DataType::float32}, {m + 256, 16, DataType::float32}); }},
      {[](Communicator& c, std::byte* m) { c.all_gather({m, 4, DataType::float32}, {m + 256, 12, DataType::float32}, std::vector<std::size_t>{4, 8}); },
       [](Communicator& c, std::byte* m) { c.all_gather({m, 8, DataType::float32}, {m + 256, 11, DataType::float32}, std::vector<std::size_t>{3, 8}); }},
  };
  for (const auto& [first, second] : pairs) {
    auto communicators = Communicator::create_local(counted(2), small_host(2));
    first(communicators[0], memory[0]);
    second(communicators[1], memory[1]);
    for (auto& communicator : communicators) {
      try {
        communicator.synchronize();
        CHECK(false);
      } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::mismatch);
      }
    }
  }
}

TEST_CASE("the plan of a collective is the same function on every rank, and can be explained", "[comm][host][collectives]") {
  auto communicators = Communicator::create_local(counted(4), small_host(4));
  for (int c = 0; c < collective_count; ++c) {
    const PlanRequest request{.collective = static_cast<Collective>(c), .count = 1000, .type = DataType::bfloat16, .root = has_root(static_cast<Collective>(c)) ? 3 : 0};
    CAPTURE(name_of(request.collective));
    const PlanReport report = communicators[2].explain(request);
    CHECK(report.plan.choice == communicators[0].plan_for(request).choice);
    CHECK(report.plan.tile_bytes == communicators[0].plan_for(request).tile_bytes);
    CHECK(report.candidates.size() >= algorithms_of(request.collective).size());
    CHECK(report.candidates.front().choice == report.plan.choice);
    CHECK_FALSE(report.explanation.empty());
    if (!reduces(request.collective)) CHECK(report.plan.wire == Wire::flagged);
  }
}

#if COLLECTIVES_HAS_CUDA

TEST_CASE("every collective is exact, mixed with the others call after call, on GPUs", "[gpu][collectives]") {
  const int gpus = cuda_device_count();
  REQUIRE(gpus > 0);
  const int ranks = GENERATE(1, 2, 3, 4, 6, 8, 16);
  std::vector<int> devices;
  for (int rank = 0; rank < ranks; ++rank) devices.push_back(rank % gpus);
  Options options;
  options.first_epoch = 0xffffffc0u;
  Ranks group(devices, options, std::size_t{16} * 1040 * 8);
  try_mixed(group, ranks <= 4 ? 900 : 360, static_cast<std::uint64_t>(ranks) * 10'000);
}

TEST_CASE("every algorithm of every collective is exact, within the slots and far beyond them, on GPUs", "[gpu][collectives]") {
  const int gpus = cuda_device_count();
  REQUIRE(gpus > 0);
  const int ranks = GENERATE(2, 4, 5);
  std::vector<int> devices;
  for (int rank = 0; rank < ranks; ++rank) devices.push_back(rank % gpus);
  for (const AlgorithmChoice choice : algorithms_of(Collective::broadcast)) {
    Options options;
    options.algorithm = choice;
    options.pool_bytes = static_cast<std::size_t>((ranks + gpus - 1) / gpus) * (2u << 20);
    Ranks group(devices, options, static_cast<std::size_t>(ranks) * ((3u << 20) + 64));
    CAPTURE(to_string(choice));
    try_large(group, 3 << 20);
    try_mixed(group, 90, 5);
  }
}

TEST_CASE("what looks like an empty slot arrives as it is, on GPUs", "[gpu][collectives]") {
  const int gpus = cuda_device_count();
  REQUIRE(gpus > 0);
  const int ranks = GENERATE(2, 3, 4, 8);
  // Between two ranks a pack a thread, two, four, and more tiles than there are slots.
  const std::size_t block = GENERATE(std::size_t{16}, std::size_t{50'000}, std::size_t{900'001}, std::size_t{1'900'001}, std::size_t{3'000'003});
  CAPTURE(ranks, block);
  std::vector<int> devices;
  for (int rank = 0; rank < ranks; ++rank) devices.push_back(rank % gpus);
  const auto n = static_cast<std::size_t>(ranks);
  Options options;
  options.pool_bytes = static_cast<std::size_t>((ranks + gpus - 1) / gpus) * (block > 3'000'000 ? 4u << 20 : 24u << 20);
  Ranks group(devices, options, n * block);
  // What looks empty, what such words travel as, all ones, or none of these, but for a byte now and then, by which the blocks differ.
  const auto byte_of = [&](std::size_t from, std::size_t to, std::size_t i) {
    if (i % 97 == 13) return static_cast<std::byte>(from * 16 + to);
    const std::size_t stretch = i / 4096 % 4;
    const std::uint32_t word = stretch == 0 ? kernels::EscapedWire::looks_empty : stretch == 1 ? kernels::EscapedWire::looks_marked : 0xffffffffu;
    return static_cast<std::byte>(stretch == 3 ? i / 7 + from : word >> i % 4 * 8);
  };
  for (std::size_t from = 0; from < n; ++from) {
    std::vector<std::byte> bytes(n * block);
    in_parts(bytes.size(), [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) bytes[i] = byte_of(from, i / block, i % block);
    });
    group.in[from].write(bytes);
  }
  const auto check = [&](auto call, auto expected) {
    for (std::size_t r = 0; r < n; ++r) group.out[r].write(std::vector<std::byte>(n * block));
    for (std::size_t r = 0; r < n; ++r) call(group.communicators[r], group.in[r].data(), group.out[r].data(), group.stream(static_cast<int>(r)));
    for (std::size_t r = 0; r < n; ++r) group.communicators[r].synchronize(group.stream(static_cast<int>(r)));
    std::atomic<std::size_t> wrong = 0;
    for (std::size_t r = 0; r < n; ++r) {
      const auto out = group.out[r].read(n * block);
      in_parts(out.size(), [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) wrong += out[i] != expected(r, i);
      });
    }
    CHECK(wrong == 0);
  };
  const auto type = DataType::uint8;
  check([&](Communicator& c, std::byte* in, std::byte* out, Stream s) { c.all_to_all({in, n * block, type}, {out, n * block, type}, s); },
        [&](std::size_t r, std::size_t i) { return byte_of(i / block, r, i % block); });
  check([&](Communicator& c, std::byte* in, std::byte* out, Stream s) { c.all_gather({in, block, type}, {out, n * block, type}, s); },
        [&](std::size_t, std::size_t i) { return byte_of(i / block, 0, i % block); });
  check([&](Communicator& c, std::byte* in, std::byte* out, Stream s) { c.broadcast({in, n * block, type}, {out, n * block, type}, 1, s); },
        [&](std::size_t, std::size_t i) { return byte_of(1, i / block, i % block); });
}

#endif
