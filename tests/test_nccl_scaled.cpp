#include "nccl_drop_in.hpp"
#include "test.hpp"

using namespace collectives;

namespace {

constexpr int sum_of_floats = 7;

/// Rank r's elements are r + 1 + i, its factor r + 2.
struct Scaled {
  explicit Scaled(std::size_t count) : in(2, std::vector<float>(count)), out(2, std::vector<float>(count, -1)) {
    for (std::size_t rank = 0; rank < 2; ++rank)
      for (std::size_t i = 0; i < count; ++i) in[rank][i] = static_cast<float>(rank + 1 + i);
  }
  float expected(std::size_t i) const { return 2 * static_cast<float>(1 + i) + 3 * static_cast<float>(2 + i); }
  std::vector<std::vector<float>> in, out;
};

}  // namespace

TEST_CASE("a sum of multiples takes its factor when it is made and may be destroyed before the group ends", "[nccl_shim][host]") {
  const int kind = GENERATE(0, 1, 2);
  CAPTURE(kind);
  DropInRanks made(2);
  const std::size_t count = 40;
  Scaled data(count);
  nccl_ok(drop_in().group_start());
  for (std::size_t rank = 0; rank < 2; ++rank) {
    float factor = static_cast<float>(rank + 2);
    int op = 0;
    NcclComm* comm = made.comms[rank];
    const void* in = data.in[rank].data();
    void* out = data.out[rank].data();
    nccl_ok(drop_in().red_op_create_pre_mul_sum(&op, &factor, sum_of_floats, nccl_scalar_on_host, comm));
    factor = 1e9F;
    if (kind == 0) nccl_ok(drop_in().all_reduce(in, out, count, sum_of_floats, op, comm, nullptr));
    if (kind == 1) nccl_ok(drop_in().reduce(in, out, count, sum_of_floats, op, 1, comm, nullptr));
    if (kind == 2) nccl_ok(drop_in().reduce_scatter(in, out, count / 2, sum_of_floats, op, comm, nullptr));
    nccl_ok(drop_in().red_op_destroy(op, comm));
  }
  nccl_ok(drop_in().group_end());
  for (std::size_t rank = 0; rank < 2; ++rank) {
    if (kind == 1 && rank == 0) continue;
    const std::size_t part = kind == 2 ? count / 2 : count, begin = kind == 2 ? rank * part : 0;
    for (std::size_t i = 0; i < part; ++i) CHECK(data.out[rank][i] == data.expected(begin + i));
  }
}

TEST_CASE("a factor that stays where it is, is read when the call runs", "[nccl_shim][host]") {
  DropInRanks made(2);
  Scaled data(9);
  float factors[2] = {0, 0};
  int ops[2];
  for (std::size_t rank = 0; rank < 2; ++rank) nccl_ok(drop_in().red_op_create_pre_mul_sum(&ops[rank], &factors[rank], sum_of_floats, nccl_scalar_on_device, made.comms[rank]));
  factors[0] = 2;
  factors[1] = 3;
  nccl_ok(drop_in().group_start());
  for (std::size_t rank = 0; rank < 2; ++rank)
    nccl_ok(drop_in().all_reduce(data.in[rank].data(), data.out[rank].data(), 9, sum_of_floats, ops[rank], made.comms[rank], nullptr));
  nccl_ok(drop_in().group_end());
  for (std::size_t i = 0; i < 9; ++i) CHECK((data.out[0][i] == data.expected(i) && data.out[1][i] == data.expected(i)));
  for (std::size_t rank = 0; rank < 2; ++rank) nccl_ok(drop_in().red_op_destroy(ops[rank], made.comms[rank]));
}
