#include "base/require.hpp"
#include "comm/impl.hpp"
#include "comm/operands.hpp"

namespace collectives {
namespace {

std::unique_ptr<Executor> make_executor(Backend backend, RankContext context) {
#if COLLECTIVES_HAS_CUDA
  if (backend == Backend::cuda) return make_cuda_executor(std::move(context));
#endif
  ensure(backend == Backend::host, "a backend was resolved that this build does not have");
  return make_host_executor(std::move(context));
}

}  // namespace

Communicator::Impl::Impl(std::shared_ptr<World> shared, RankPool& own_pool, const RankContext& context, Backend on, std::uint32_t timeout_ms)
    : rank(context.rank),
      size(context.ranks),
      device(context.device),
      backend(on),
      world(std::move(shared)),
      pool(own_pool),
      executor(make_executor(on, context)),
      local_post(world->mesh ? nullptr : std::make_unique<LocalPost>(world->letters, rank, timeout_ms)),
      post(world->mesh ? static_cast<Post*>(&*world->mesh) : local_post.get()),
      demotions(world->board(), rank, size, timeout_ms, [this] { return executor->fault(true); }),
      room_(context.common),
      lacks_room_(context.pools_in_device_memory && context.common == context.pools),
      planner_(&world->plans->first()),
      plans_mark_(mark_of(*planner_, 0)) {}

void Communicator::Impl::expect_alive(bool look) {
  if (!death_) death_ = executor->fault(look);
  if (death_) throw *death_;
}

Communicator::Communicator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Communicator::Communicator(Communicator&&) noexcept = default;
Communicator& Communicator::operator=(Communicator&&) noexcept = default;
Communicator::~Communicator() = default;

int Communicator::rank() const { return impl_->rank; }
int Communicator::size() const { return impl_->size; }
int Communicator::device() const { return impl_->device; }
Backend Communicator::backend() const { return impl_->backend; }

void Communicator::all_reduce(ConstBuffer in, Buffer out, ReduceOp op, Stream stream) { impl_->all_reduce(in, out, {op}, stream); }
void Communicator::all_reduce(ConstBuffer in, Buffer out, const ScaledSum& sum, Stream stream) { impl_->all_reduce(in, out, {.factor = &sum}, stream); }
void Communicator::all_reduce(ConstBuffer in, Buffer out, ReduceOp op, DataType carried, Stream stream) {
  impl_->all_reduce_carried(in, out, op, carried, stream);
}
void Communicator::all_reduce_nothing(Buffer out, ReduceOp op, Stream stream) { impl_->all_reduce_nothing(out, op, stream); }

void Communicator::reduce_scatter(ConstBuffer in, Buffer out, ReduceOp op, Stream stream) {
  impl_->reduce_scatter(in, out, equal_blocks(size(), out.count), {op}, stream);
}
void Communicator::reduce_scatter(ConstBuffer in, Buffer out, const ScaledSum& sum, Stream stream) {
  impl_->reduce_scatter(in, out, equal_blocks(size(), out.count), {.factor = &sum}, stream);
}
void Communicator::reduce_scatter(ConstBuffer in, Buffer out, std::span<const std::size_t> counts, ReduceOp op, Stream stream) {
  impl_->reduce_scatter(in, out, blocks_of(counts, size()), {op}, stream);
}
void Communicator::all_gather(ConstBuffer in, Buffer out, Stream stream) { impl_->all_gather(in, out, equal_blocks(size(), in.count), stream); }
void Communicator::all_gather(ConstBuffer in, Buffer out, std::span<const std::size_t> counts, Stream stream) {
  impl_->all_gather(in, out, blocks_of(counts, size()), stream);
}
void Communicator::broadcast(ConstBuffer in, Buffer out, int root, Stream stream) { impl_->broadcast(in, out, root, stream); }
void Communicator::reduce(ConstBuffer in, Buffer out, ReduceOp op, int root, Stream stream) { impl_->reduce(in, out, {op}, root, stream); }
void Communicator::reduce(ConstBuffer in, Buffer out, const ScaledSum& sum, int root, Stream stream) {
  impl_->reduce(in, out, {.factor = &sum}, root, stream);
}
void Communicator::all_to_all(ConstBuffer in, Buffer out, Stream stream) { impl_->all_to_all(in, out, stream); }
void Communicator::gather(ConstBuffer in, Buffer out, int root, Stream stream) { impl_->gather(in, out, root, stream); }
void Communicator::scatter(ConstBuffer in, Buffer out, int root, Stream stream) { impl_->scatter(in, out, root, stream); }
void Communicator::exchange(std::span<const Send> sends, std::span<const Receive> receives, Stream stream) { impl_->exchange(sends, receives, stream); }

void Communicator::barrier(Stream stream) { impl_->barrier(stream); }

void Communicator::synchronize(Stream stream) {
  impl_->executor->synchronize(stream);
  impl_->expect_alive(false);
}

void Communicator::finish() {
  impl_->executor->finish();
  impl_->expect_alive(false);
}

void Communicator::check() {
  if (auto error = impl_->executor->fault(true)) throw *error;
}

void Communicator::abort() { impl_->executor->abort(true); }

PoolStatistics Communicator::pool_statistics() const { return impl_->pool.pool->statistics(); }

Plan Communicator::plan_for(const PlanRequest& request) const { return impl_->planner_ahead().plan(request); }
PlanReport Communicator::explain(const PlanRequest& request) const { return impl_->planner_ahead().explain(request); }

Plan Communicator::plan_for(std::size_t count, DataType type, ReduceOp op) const { return plan_for({.count = count, .type = type, .op = op}); }
PlanReport Communicator::explain(std::size_t count, DataType type, ReduceOp op) const { return explain({.count = count, .type = type, .op = op}); }

}  // namespace collectives
