#include "nccl_shim/calls.hpp"

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <optional>

#include "base/require.hpp"
#include "nccl_shim/abi.hpp"

namespace collectives {
namespace {

/// One of the plain operations, or a sum of multiples.
struct DropInReduction {
  std::optional<ReduceOp> plain;
  DropInFactor factor;

  /// Holds while this does.
  ScaledSum scaled() const { return {.factor = factor.on_device != nullptr ? factor.on_device : factor.value.data(), .on_device = factor.on_device != nullptr}; }
  ReduceOp op() const { return plain.value_or(ReduceOp::sum); }
};

DropInReduction reduction_of(DropInRank& rank, int op, DataType type) {
  constexpr ReduceOp plain[] = {ReduceOp::sum, ReduceOp::prod, ReduceOp::max, ReduceOp::min, ReduceOp::avg};
  if (op >= 0 && op < nccl_op_count) return {plain[op], {}};
  const DropInFactor factor = rank.operation(op);
  require(factor.type == type, [&] { return fmt::format("the operation was made for {} and called with {}: expected one type", name_of(factor.type), name_of(type)); });
  return {{}, factor};
}

/// A request whose numbers mean something.
struct Checked {
  DataType type = DataType::float32;
  std::size_t count = 0;
  std::size_t all = 0;  ///< a block for each rank

  Checked(const DropInRank& rank, const DropInRequest& request) : type(data_type_of_nccl(request.type)), count(request.count) {
    require(count <= SIZE_MAX / 16 / size_of(type) / static_cast<std::size_t>(rank.size()), [&] { return fmt::format("a count of {} is larger than any memory", count); });
    all = count * static_cast<std::size_t>(rank.size());
  }
};

void check_pointer(const void* data, const Checked& checked, const char* name) {
  require(data != nullptr || checked.count == 0, [&] { return fmt::format("{} is null", name); });
}

void check_peer(const DropInRank& rank, int peer, const char* what) {
  require(peer >= 0 && peer < rank.size(), [&] { return fmt::format("{} {}: expected 0 to {}", what, peer, rank.size() - 1); });
}

/// Issues or queues a call whose arguments are right. One without elements is no call.
template <typename Issue>
void ask(const DropInRankPointer& rank, const PlanRequest& request, std::size_t elements, Stream stream, Issue issue) {
  if (request.count > 0) DropInGroup::of_this_thread().add({rank, request, elements * size_of(request.type), stream, issue});
}

}  // namespace

DataType data_type_of_nccl(int type) {
  constexpr DataType types[nccl_type_count] = {DataType::int8,    DataType::uint8,   DataType::int32,   DataType::uint32,   DataType::int64,       DataType::uint64,
                                               DataType::float16, DataType::float32, DataType::float64, DataType::bfloat16, DataType::float8_e4m3, DataType::float8_e5m2};
  require(type >= 0 && type < nccl_type_count, [&] { return fmt::format("{} is no data type: expected 0 to {}", type, nccl_type_count - 1); });
  return types[type];
}

void ask_all_gather(const DropInRankPointer& rank, const DropInRequest& request) {
  rank->expect_ready();
  const Checked checked(*rank, request);
  check_pointer(request.in, checked, "sendbuff");
  check_pointer(request.out, checked, "recvbuff");
  const ConstBuffer in{request.in, checked.count, checked.type};
  const Buffer out{request.out, checked.all, checked.type};
  ask(rank, {.collective = Collective::all_gather, .count = checked.count, .type = checked.type}, checked.all, request.stream,
      [in, out, stream = request.stream](Communicator& to) { to.all_gather(in, out, stream); });
}

void ask_all_reduce(const DropInRankPointer& rank, const DropInRequest& request) {
  rank->expect_ready();
  const Checked checked(*rank, request);
  const DropInReduction reduction = reduction_of(*rank, request.op, checked.type);
  check_pointer(request.in, checked, "sendbuff");
  check_pointer(request.out, checked, "recvbuff");
  const ConstBuffer in{request.in, checked.count, checked.type};
  const Buffer out{request.out, checked.count, checked.type};
  ask(rank, {.count = checked.count, .type = checked.type, .op = reduction.op(), .scaled = !reduction.plain}, checked.count, request.stream, [in, out, reduction, stream = request.stream](Communicator& to) {
    if (reduction.plain) return to.all_reduce(in, out, *reduction.plain, stream);
    to.all_reduce(in, out, reduction.scaled(), stream);
  });
}

void ask_all_to_all(const DropInRankPointer& rank, const DropInRequest& request) {
  rank->expect_ready();
  const Checked checked(*rank, request);
  check_pointer(request.in, checked, "sendbuff");
  check_pointer(request.out, checked, "recvbuff");
  require(request.in != request.out || checked.count == 0, "sendbuff and recvbuff are the same: an all-to-all cannot work in place");
  const ConstBuffer in{request.in, checked.all, checked.type};
  const Buffer out{request.out, checked.all, checked.type};
  ask(rank, {.collective = Collective::all_to_all, .count = checked.count, .type = checked.type}, checked.all, request.stream,
      [in, out, stream = request.stream](Communicator& to) { to.all_to_all(in, out, stream); });
}

void ask_broadcast(const DropInRankPointer& rank, const DropInRequest& request) {
  rank->expect_ready();
  const Checked checked(*rank, request);
  check_peer(*rank, request.root, "root");
  if (rank->rank() == request.root) check_pointer(request.in, checked, "sendbuff");
  check_pointer(request.out, checked, "recvbuff");
  const ConstBuffer in{request.in, checked.count, checked.type};
  const Buffer out{request.out, checked.count, checked.type};
  ask(rank, {.collective = Collective::broadcast, .count = checked.count, .type = checked.type, .root = request.root}, checked.count, request.stream,
      [in, out, root = request.root, stream = request.stream](Communicator& to) { to.broadcast(in, out, root, stream); });
}

void ask_gather(const DropInRankPointer& rank, const DropInRequest& request) {
  rank->expect_ready();
  const Checked checked(*rank, request);
  check_peer(*rank, request.root, "root");
  check_pointer(request.in, checked, "sendbuff");
  if (rank->rank() == request.root) check_pointer(request.out, checked, "recvbuff");
  const ConstBuffer in{request.in, checked.count, checked.type};
  const Buffer out{request.out, checked.all, checked.type};
  ask(rank, {.collective = Collective::gather, .count = checked.count, .type = checked.type, .root = request.root}, checked.all, request.stream,
      [in, out, root = request.root, stream = request.stream](Communicator& to) { to.gather(in, out, root, stream); });
}

void ask_reduce(const DropInRankPointer& rank, const DropInRequest& request) {
  rank->expect_ready();
  const Checked checked(*rank, request);
  const DropInReduction reduction = reduction_of(*rank, request.op, checked.type);
  check_peer(*rank, request.root, "root");
  check_pointer(request.in, checked, "sendbuff");
  if (rank->rank() == request.root) check_pointer(request.out, checked, "recvbuff");
  const ConstBuffer in{request.in, checked.count, checked.type};
  const Buffer out{request.out, checked.count, checked.type};
  ask(rank, {.collective = Collective::reduce, .count = checked.count, .type = checked.type, .op = reduction.op(), .root = request.root, .scaled = !reduction.plain}, checked.count, request.stream,
      [in, out, reduction, root = request.root, stream = request.stream](Communicator& to) {
        if (reduction.plain) return to.reduce(in, out, *reduction.plain, root, stream);
        to.reduce(in, out, reduction.scaled(), root, stream);
      });
}

void ask_reduce_scatter(const DropInRankPointer& rank, const DropInRequest& request) {
  rank->expect_ready();
  const Checked checked(*rank, request);
  const DropInReduction reduction = reduction_of(*rank, request.op, checked.type);
  check_pointer(request.in, checked, "sendbuff");
  check_pointer(request.out, checked, "recvbuff");
  const ConstBuffer in{request.in, checked.all, checked.type};
  const Buffer out{request.out, checked.count, checked.type};
  ask(rank, {.collective = Collective::reduce_scatter, .count = checked.count, .type = checked.type, .op = reduction.op(), .scaled = !reduction.plain}, checked.all, request.stream,
      [in, out, reduction, stream = request.stream](Communicator& to) {
        if (reduction.plain) return to.reduce_scatter(in, out, *reduction.plain, stream);
        to.reduce_scatter(in, out, reduction.scaled(), stream);
      });
}

void ask_scatter(const DropInRankPointer& rank, const DropInRequest& request) {
  rank->expect_ready();
  const Checked checked(*rank, request);
  check_peer(*rank, request.root, "root");
  if (rank->rank() == request.root) check_pointer(request.in, checked, "sendbuff");
  check_pointer(request.out, checked, "recvbuff");
  const ConstBuffer in{request.in, checked.all, checked.type};
  const Buffer out{request.out, checked.count, checked.type};
  ask(rank, {.collective = Collective::scatter, .count = checked.count, .type = checked.type, .root = request.root}, checked.all, request.stream,
      [in, out, root = request.root, stream = request.stream](Communicator& to) { to.scatter(in, out, root, stream); });
}

void ask_send(const DropInRankPointer& rank, const DropInRequest& request) {
  rank->expect_ready();
  const Checked checked(*rank, request);
  check_peer(*rank, request.root, "peer");
  check_pointer(request.in, checked, "sendbuff");
  if (checked.count == 0) return;
  DropInGroup::of_this_thread().add(rank, Send{{request.in, checked.count, checked.type}, request.root}, request.stream);
}

void ask_receive(const DropInRankPointer& rank, const DropInRequest& request) {
  rank->expect_ready();
  const Checked checked(*rank, request);
  check_peer(*rank, request.root, "peer");
  check_pointer(request.out, checked, "recvbuff");
  if (checked.count == 0) return;
  DropInGroup::of_this_thread().add(rank, Receive{{request.out, checked.count, checked.type}, request.root}, request.stream);
}

int make_pre_mul_sum(DropInRank& rank, const void* scalar, int type, int residence) {
  rank.expect_ready();
  DropInFactor factor{.type = data_type_of_nccl(type)};
  require(scalar != nullptr, "the scalar is null");
  require(residence == nccl_scalar_on_device || residence == nccl_scalar_on_host, [&] { return fmt::format("a scalar's residence of {}: expected 0 or 1", residence); });
  if (residence == nccl_scalar_on_device)
    factor.on_device = scalar;
  else
    std::memcpy(factor.value.data(), scalar, size_of(factor.type));
  return rank.add_operation(factor);
}

}  // namespace collectives
