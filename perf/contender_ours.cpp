#include "perf/contender.hpp"

namespace perf {
namespace {

class Ours final : public Contender {
 public:
  Ours(Worker& worker, const Collective& collective, std::size_t capacity) : worker_(worker), collective_(collective) {
    creation_ms_ = worker.creation_ms;
    for (auto& place : worker.places) {
      RankBuffers& buffers = buffers_.emplace_back();
      buffers.in = place->allocate(capacity + 2 * guard_bytes) + guard_bytes;
      buffers.out = place->allocate(capacity + 2 * guard_bytes) + guard_bytes;
    }
  }

  ~Ours() override {
    for (std::size_t local = 0; local < buffers_.size(); ++local) {
      worker_.places[local]->release(buffers_[local].in - guard_bytes);
      worker_.places[local]->release(buffers_[local].out - guard_bytes);
    }
  }

  std::string name() const override { return "ours"; }

  void enqueue(int local, const Call& call) override { collective_.enqueue(worker_.communicators[static_cast<std::size_t>(local)], call); }

  void wait(int local) override {
    const auto index = static_cast<std::size_t>(local);
    worker_.communicators[index].synchronize(worker_.places[index]->stream());
  }

 private:
  Worker& worker_;
  const Collective& collective_;
};

}  // namespace

std::unique_ptr<Contender> make_ours(Worker& worker, const Collective& collective, std::size_t capacity) {
  return std::make_unique<Ours>(worker, collective, capacity);
}

}  // namespace perf
