#include <fmt/format.h>

#include <cstring>

#include "base/require.hpp"
#include "comm/impl.hpp"
#include "comm/operands.hpp"

// What each collective asks of its arguments, and how it lies in them. Nothing is enqueued before everything was checked.
namespace collectives {
namespace {

const std::byte* element_at(const void* data, std::size_t elements, DataType type) {
  return data == nullptr ? nullptr : static_cast<const std::byte*>(data) + elements * size_of(type);
}
std::byte* element_at(void* data, std::size_t elements, DataType type) { return const_cast<std::byte*>(element_at(static_cast<const void*>(data), elements, type)); }

/// Every rank's block as long here as there, without places yet.
std::array<Part, max_ranks> parts_of(const Blocks& blocks) {
  std::array<Part, max_ranks> parts{};
  for (std::size_t rank = 0; rank < parts.size(); ++rank) parts[rank].in_count = parts[rank].out_count = blocks.count[rank];
  return parts;
}

}  // namespace

void Communicator::Impl::check(const ConstBuffer& in) const {
  executor->check_buffer(in.data, in.count * size_of(in.type), "in");
  check_place(in.data, in.type, "in");
}

void Communicator::Impl::check(const Buffer& out) const {
  executor->check_buffer(out.data, out.count * size_of(out.type), "out");
  check_place(out.data, out.type, "out");
}

Factor Communicator::Impl::check(const Reduction& how, DataType type) const {
  check_operation(how.op);
  if (how.factor == nullptr) return {};
  const void* at = how.factor->factor;
  require(at != nullptr, "a scaled sum's factor is null: expected the address of one element");
  if (how.factor->on_device) {
    executor->check_buffer(at, size_of(type), "the factor");
    check_place(at, type, "the factor");
    return {.given = Factor::at_address, .address = at};
  }
  Factor factor{.given = Factor::by_value};
  std::memcpy(&factor.bits, at, size_of(type));
  return factor;
}

void Communicator::Impl::start(const PlanRequest& request, Call call, Stream stream) {
  expect_alive(false);
  if (request.count == 0) return;
  follow();
  call.collective = request.collective;
  call.type = request.type;
  call.op = request.op;
  call.carried = request.carried;
  call.root = request.root;
  call.plans = plans_mark_;
  const Plan plan = rehearsed_ != nullptr ? *rehearsed_ : planner_->plan(request);
  executor->enqueue(call, plan, planner_->program(request, plan, rank), stream);
  ++calls_;
}

void Communicator::Impl::all_reduce(ConstBuffer in, Buffer out, Reduction how, Stream stream) {
  check_type(in.type);
  check_same_type(in, out);
  const Factor factor = check(how, in.type);
  check_count(out.count, in.count, "out", "as many as in");
  check(in);
  check(out);
  check_apart(in, out, 0, 0);
  start({.count = in.count, .type = in.type, .op = how.op, .scaled = factor.given != Factor::none},
        {.in = in.data, .out = out.data, .count = in.count, .factor = factor}, stream);
}

void Communicator::Impl::all_reduce_carried(ConstBuffer in, Buffer out, ReduceOp op, DataType carried, Stream stream) {
  require(in.type == DataType::float32 && out.type == DataType::float32, "in or out is not float: expected float32 on both sides of what is carried narrower");
  require(carried == DataType::float16 || carried == DataType::bfloat16,
          [&] { return fmt::format("floats carried as {}: expected half or bfloat16", is_valid(carried) ? name_of(carried) : "unknown"); });
  check_operation(op);
  check_count(out.count, in.count, "out", "as many as in");
  check(in);
  check(out);
  check_apart(in, out, 0, 0);
  start({.count = in.count, .type = carried, .op = op, .carried = true}, {.in = in.data, .out = out.data, .count = in.count}, stream);
}

void Communicator::Impl::all_reduce_nothing(Buffer out, ReduceOp op, Stream stream) {
  check_type(out.type);
  check_operation(op);
  check_count(out.count, out.count, "out", "");
  check(out);
  start({.count = out.count, .type = out.type, .op = op}, {.in = out.data, .out = out.data, .count = out.count, .absent = true}, stream);
}

void Communicator::Impl::reduce_scatter(ConstBuffer in, Buffer out, const Blocks& blocks, Reduction how, Stream stream) {
  const auto own = static_cast<std::size_t>(rank);
  check_type(in.type);
  check_same_type(in, out);
  const Factor factor = check(how, in.type);
  check_count(out.count, blocks.count[own], "out", "this rank's block");
  check_count(in.count, blocks.total, "in", "every rank's block");
  check(in);
  check(out);
  check_apart(in, out, 0, blocks.begin[own]);
  Call call{.factor = factor, .parts = parts_of(blocks)};
  for (std::size_t r = 0; r < call.parts.size(); ++r) call.parts[r].in = element_at(in.data, blocks.begin[r], in.type);
  call.parts[own].out = out.data;
  start({.collective = Collective::reduce_scatter, .count = blocks.largest, .type = in.type, .op = how.op, .scaled = factor.given != Factor::none,
         .uneven = blocks.total != blocks.largest * static_cast<std::size_t>(size)},
        call, stream);
}

void Communicator::Impl::all_gather(ConstBuffer in, Buffer out, const Blocks& blocks, Stream stream) {
  const auto own = static_cast<std::size_t>(rank);
  check_type(in.type);
  check_same_type(in, out);
  check_count(in.count, blocks.count[own], "in", "this rank's block");
  check_count(out.count, blocks.total, "out", "every rank's block");
  check(in);
  check(out);
  check_apart(in, out, blocks.begin[own], 0);
  Call call{.parts = parts_of(blocks)};
  for (std::size_t r = 0; r < call.parts.size(); ++r) call.parts[r].out = element_at(out.data, blocks.begin[r], out.type);
  call.parts[own].in = in.data;
  start({Collective::all_gather, blocks.largest, in.type}, call, stream);
}

void Communicator::Impl::broadcast(ConstBuffer in, Buffer out, int root, Stream stream) {
  check_type(out.type);
  check_root(root, size);
  check_count(out.count, out.count, "out", "");
  check(out);
  if (rank == root) {
    check_same_type(in, out);
    check_count(in.count, out.count, "in", "as many as out");
    check(in);
    check_apart(in, out, 0, 0);
  }
  start({.collective = Collective::broadcast, .count = out.count, .type = out.type, .root = root},
        {.in = rank == root ? in.data : nullptr, .out = out.data, .count = out.count}, stream);
}

void Communicator::Impl::reduce(ConstBuffer in, Buffer out, Reduction how, int root, Stream stream) {
  check_type(in.type);
  const Factor factor = check(how, in.type);
  check_root(root, size);
  check_count(in.count, in.count, "in", "");
  check(in);
  if (rank == root) {
    check_same_type(in, out);
    check_count(out.count, in.count, "out", "as many as in");
    check(out);
    check_apart(in, out, 0, 0);
  }
  start({.collective = Collective::reduce, .count = in.count, .type = in.type, .op = how.op, .root = root, .scaled = factor.given != Factor::none},
        {.in = in.data, .out = rank == root ? out.data : nullptr, .count = in.count, .factor = factor}, stream);
}

void Communicator::Impl::all_to_all(ConstBuffer in, Buffer out, Stream stream) {
  check_type(in.type);
  check_same_type(in, out);
  const auto ranks = static_cast<std::size_t>(size);
  const Blocks blocks = equal_blocks(size, in.count / ranks);
  check_count(in.count, blocks.total, "in", "a block for each rank");
  check_count(out.count, in.count, "out", "as many as in");
  check(in);
  check(out);
  require(in.data != out.data || in.count == 0, "in and out are the same buffer: an all-to-all cannot work in place");
  check_apart(in, out, 0, in.count);
  Call call{.parts = parts_of(blocks)};
  for (std::size_t r = 0; r < ranks; ++r) {
    call.parts[r].in = element_at(in.data, blocks.begin[r], in.type);
    call.parts[r].out = element_at(out.data, blocks.begin[r], out.type);
  }
  start({.collective = Collective::all_to_all, .count = blocks.largest, .type = in.type}, call, stream);
}

void Communicator::Impl::gather(ConstBuffer in, Buffer out, int root, Stream stream) {
  check_type(in.type);
  check_root(root, size);
  const Blocks blocks = equal_blocks(size, in.count);
  const auto own = static_cast<std::size_t>(rank);
  check(in);
  Call call{.parts = parts_of(blocks)};
  call.parts[own].in = in.data;
  if (rank == root) {
    check_same_type(in, out);
    check_count(out.count, blocks.total, "out", "every rank's block");
    check(out);
    check_apart(in, out, blocks.begin[own], 0);
    for (std::size_t r = 0; r < call.parts.size(); ++r) call.parts[r].out = element_at(out.data, blocks.begin[r], out.type);
  }
  start({.collective = Collective::gather, .count = in.count, .type = in.type, .root = root}, call, stream);
}

void Communicator::Impl::scatter(ConstBuffer in, Buffer out, int root, Stream stream) {
  check_type(out.type);
  check_root(root, size);
  const Blocks blocks = equal_blocks(size, out.count);
  const auto own = static_cast<std::size_t>(rank);
  check(out);
  Call call{.parts = parts_of(blocks)};
  call.parts[own].out = out.data;
  if (rank == root) {
    check_same_type(in, out);
    check_count(in.count, blocks.total, "in", "every rank's block");
    check(in);
    check_apart(in, out, 0, blocks.begin[own]);
    for (std::size_t r = 0; r < call.parts.size(); ++r) call.parts[r].in = element_at(in.data, blocks.begin[r], in.type);
  }
  start({.collective = Collective::scatter, .count = out.count, .type = out.type, .root = root}, call, stream);
}

void Communicator::Impl::exchange(std::span<const Send> sends, std::span<const Receive> receives, Stream stream) {
  const auto check_peer = [&](int peer, const char* what) {
    require(peer >= 0 && peer < size, [&] { return fmt::format("a {} names rank {}: expected 0 to {}", what, peer, size - 1); });
  };
  // Bytes travel: what a sender calls its elements is nothing to the receiver. Nothing need not travel.
  Mail mail;
  for (const Send& send : sends) {
    check_type(send.buffer.type);
    check_peer(send.to, "send");
    check_count(send.buffer.count, send.buffer.count, "a send", "");
    check(send.buffer);
    const std::size_t bytes = send.buffer.count * size_of(send.buffer.type);
    if (send.to == rank) mail.own.push_back({.in = send.buffer.data, .bytes = bytes});
    if (send.to != rank && bytes > 0) mail.messages.push_back({.peer = send.to, .in = send.buffer.data, .bytes = bytes});
  }
  std::size_t from_self = 0;
  for (const Receive& receive : receives) {
    check_type(receive.buffer.type);
    check_peer(receive.from, "receive");
    check_count(receive.buffer.count, receive.buffer.count, "a receive", "");
    check(receive.buffer);
    const std::size_t bytes = receive.buffer.count * size_of(receive.buffer.type);
    if (receive.from != rank && bytes > 0) mail.messages.push_back({.peer = receive.from, .out = receive.buffer.data, .bytes = bytes});
    if (receive.from != rank) continue;
    const std::size_t sent = from_self < mail.own.size() ? mail.own[from_self].bytes : 0;
    require(sent == bytes, [&] { return fmt::format("this rank sends itself {} bytes and receives {} from itself: expected as many", sent, bytes); });
    if (from_self < mail.own.size()) mail.own[from_self++].out = receive.buffer.data;
  }
  for (; from_self < mail.own.size(); ++from_self)
    require(mail.own[from_self].bytes == 0, [&] { return fmt::format("this rank sends itself {} bytes and receives none of them: expected as many", mail.own[from_self].bytes); });
  std::erase_if(mail.own, [](const OwnMessage& message) { return message.bytes == 0 || message.in == message.out; });
  expect_alive(false);
  if (!mail.own.empty() || !mail.messages.empty()) send_off(mail, stream);
}

void Communicator::Impl::barrier(Stream stream) {
  // A one-word reduction over the flagged wire: nobody has the result before everybody has called.
  void* word = pool.pool->base() + pool.barrier_offset;
  start({.count = 1, .type = DataType::int32, .op = ReduceOp::max}, {.in = word, .out = word, .count = 1}, stream);
}

}  // namespace collectives
