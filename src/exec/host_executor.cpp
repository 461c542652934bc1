#include <sched.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "base/require.hpp"
#include "exec/arguments.hpp"
#include "exec/executor.hpp"
#include "exec/host_program.hpp"
#include "exec/identity.hpp"

namespace collectives {
namespace {

class HostExecutor final : public Executor {
 public:
  explicit HostExecutor(RankContext context)
      : Executor(std::move(context)), walked_(context_), arguments_(walked_, &record_), worker_([this] { work(); }) {}

  ~HostExecutor() override {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    worker_.join();
  }

  void check_buffer(const void* data, std::size_t bytes, const char* name) const override {
    require(data != nullptr || bytes == 0, [&] { return std::string(name) + " is null: expected the address of host memory"; });
  }

  void enqueue(const Call& call, const Plan& plan, const Program& program, Stream) override {
    start([this, call, plan, &program] {
      if (call.absent) fill_elements(call.out, call.count, identity_of(call.type, call.carried, call.op));
      run_on_host(arguments_.program(call, plan, program), call.type, plan.wire, [this] { relieve(); });
    });
  }

  void enqueue(const Mail& mail, Stream) override {
    start([this, args = mail_args(context_, mail, &record_), own = mail.own] {
      for (const OwnMessage& message : own) std::memcpy(message.out, message.in, message.bytes);
      run_mail_on_host(args, [this] { relieve(); });
    });
  }

  void reroute(std::uint32_t out_of_reach, const std::array<std::byte*, max_ranks>& common) override {
    turn_calls_to(out_of_reach, common);
    start([this, out_of_reach, common] {
      walked_.out_of_reach = out_of_reach;
      walked_.common = common;
    });
  }

  void reroute_mail(int peer, bool sends, const std::array<std::byte*, max_ranks>& common, Stream) override {
    if (!turn_mail_to(peer, sends, common)) return;
    start([way = new_way_to(context_, peer)] {
      for (int lane = 0; lane < kernels::max_mail_lanes; ++lane) signal_relaxed(&way.credits[lane], mark(observe_relaxed(&way.sent[lane]), 0));
    });
  }

  void synchronize(Stream) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return calls_.empty() && !running_; });
  }

  void finish() override { synchronize(nullptr); }

  void abort(bool tell) override {
    signal_relaxed(&record_.abort, 1u);
    if (!tell) return;
    const Mark word = kernels::poison(kernels::FaultKind::aborted, static_cast<std::uint32_t>(context_.rank), static_cast<std::uint32_t>(context_.rank));
    for (Mark* ear : ears()) signal_relaxed(ear, word);
  }

 protected:
  kernels::FaultRecord& record() override { return record_; }

 private:
  void start(std::function<void()> call) {
    {
      const std::lock_guard lock(mutex_);
      calls_.push_back(std::move(call));
    }
    changed_.notify_all();
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return closing_ || !calls_.empty(); });
      if (calls_.empty()) return;
      const std::function<void()> next = std::move(calls_.front());
      calls_.pop_front();
      running_ = true;
      lock.unlock();
      // A dead rank's remaining calls are dropped: their outputs stay as they are.
      if (!fault(false)) next();
      lock.lock();
      running_ = false;
      changed_.notify_all();
    }
  }

  /// Between tries: lets another rank's thread run, and looks after the peers every few milliseconds.
  void relieve() {
    ::sched_yield();
    const std::uint64_t now = now_ns();
    if (now < next_look_) return;
    next_look_ = now + 5'000'000;
    abandon_if_lost();
  }

  kernels::FaultRecord record_{};
  RankContext walked_;  ///< that of the running call
  Arguments arguments_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> calls_;
  bool running_ = false;
  bool closing_ = false;
  std::uint64_t next_look_ = 0;
  std::thread worker_;  // last: it uses the others
};

}  // namespace

std::unique_ptr<Executor> make_host_executor(RankContext context) { return std::make_unique<HostExecutor>(std::move(context)); }

}  // namespace collectives
