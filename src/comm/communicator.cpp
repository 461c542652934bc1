#include <fmt/format.h>

#include "base/require.hpp"
#include "comm/impl.hpp"

namespace collectives {
namespace {

void check_operands(const ConstBuffer& in, const Buffer& out, ReduceOp op) {
  require(is_valid(in.type), [&] { return fmt::format("type {} is unknown: expected one of the {} types of DataType", static_cast<int>(in.type), data_type_count); });
  require(in.type == out.type, [&] { return fmt::format("in is {} and out is {}: expected the same type", name_of(in.type), is_valid(out.type) ? name_of(out.type) : "unknown"); });
  require(is_valid(op), [&] { return fmt::format("operation {} is unknown: expected one of the {} operations of ReduceOp", static_cast<int>(op), reduce_op_count); });
  require(in.count == out.count, [&] { return fmt::format("in has {} elements and out {}: expected as many", in.count, out.count); });
  require(in.count <= SIZE_MAX / 16, [&] { return fmt::format("a count of {} is larger than any memory", in.count); });
}

void check_place(const void* data, DataType type, const char* name) {
  const auto size = size_of(type);
  require(reinterpret_cast<std::uintptr_t>(data) % size == 0,
          [&] { return fmt::format("{} is at {}: expected an address aligned to the {} bytes of a {}", name, data, size, name_of(type)); });
}

void check_overlap(const ConstBuffer& in, const Buffer& out) {
  const auto bytes = in.count * size_of(in.type);
  const auto a = reinterpret_cast<std::uintptr_t>(in.data), b = reinterpret_cast<std::uintptr_t>(out.data);
  require(a == b || a + bytes <= b || b + bytes <= a, "in and out overlap: expected the same buffer or two apart");
}

std::unique_ptr<Executor> make_executor(Backend backend, RankContext context) {
#if COLLECTIVES_HAS_CUDA
  if (backend == Backend::cuda) return make_cuda_executor(std::move(context));
#endif
  ensure(backend == Backend::host, "a backend was resolved that this build does not have");
  return make_host_executor(std::move(context));
}

}  // namespace

Communicator::Impl::Impl(std::shared_ptr<World> shared, RankPool& own_pool, RankContext context, Backend on)
    : rank(context.rank),
      size(context.ranks),
      device(context.device),
      backend(on),
      world(std::move(shared)),
      pool(own_pool),
      executor(make_executor(on, std::move(context))) {}

void Communicator::Impl::expect_alive(bool look) {
  if (!death_) death_ = executor->fault(look);
  if (death_) throw *death_;
}

void Communicator::Impl::all_reduce(ConstBuffer in, Buffer out, ReduceOp op, Stream stream) {
  check_operands(in, out, op);
  const std::size_t bytes = in.count * size_of(in.type);
  executor->check_buffer(in.data, bytes, "in");
  executor->check_buffer(out.data, bytes, "out");
  check_place(in.data, in.type, "in");
  check_place(out.data, out.type, "out");
  check_overlap(in, out);
  expect_alive(false);
  if (in.count == 0) return;
  const Plan plan = world->planner->all_reduce(in.count, in.type, op);
  executor->enqueue({in.data, out.data, in.count, in.type, op}, plan, world->planner->routine(plan.choice).programs[static_cast<std::size_t>(rank)], stream);
}

void Communicator::Impl::barrier(Stream stream) {
  expect_alive(false);
  // A one-word reduction over the flagged wire: nobody has the result before everybody has called.
  void* word = pool.pool->base() + pool.barrier_offset;
  const Plan plan = world->planner->all_reduce(1, DataType::int32, ReduceOp::max);
  executor->enqueue({word, word, 1, DataType::int32, ReduceOp::max}, plan, world->planner->routine(plan.choice).programs[static_cast<std::size_t>(rank)], stream);
}

Communicator::Communicator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Communicator::Communicator(Communicator&&) noexcept = default;
Communicator& Communicator::operator=(Communicator&&) noexcept = default;
Communicator::~Communicator() = default;

int Communicator::rank() const { return impl_->rank; }
int Communicator::size() const { return impl_->size; }
int Communicator::device() const { return impl_->device; }
Backend Communicator::backend() const { return impl_->backend; }

void Communicator::all_reduce(ConstBuffer in, Buffer out, ReduceOp op, Stream stream) { impl_->all_reduce(in, out, op, stream); }
void Communicator::barrier(Stream stream) { impl_->barrier(stream); }

void Communicator::synchronize(Stream stream) {
  impl_->executor->synchronize(stream);
  impl_->expect_alive(false);
}

void Communicator::check() {
  if (auto error = impl_->executor->fault(true)) throw *error;
}

void Communicator::abort() { impl_->executor->abort(true); }

PoolStatistics Communicator::pool_statistics() const { return impl_->pool.pool->statistics(); }

Plan Communicator::plan_for(std::size_t count, DataType type, ReduceOp op) const {
  check_operands({nullptr, count, type}, {nullptr, count, type}, op);
  return impl_->world->planner->all_reduce(count, type, op);
}

PlanReport Communicator::explain(std::size_t count, DataType type, ReduceOp op) const {
  check_operands({nullptr, count, type}, {nullptr, count, type}, op);
  return impl_->world->planner->explain(count, type, op);
}

}  // namespace collectives
