#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "topology/verify_steps.hpp"

namespace collectives {

/// Does a step on real links. One report a pair. What it throws ends the child: the GPUs may be in error.
class LinkProber {
 public:
  virtual ~LinkProber() = default;
  virtual std::vector<Report> run(const ProbeStep& step) = 0;
};

/// On this process's GPUs, with a fault if one is given. Throws Error(unsupported) where there is no GPU.
std::unique_ptr<LinkProber> make_link_prober(const std::optional<Injection>& injection);

/// What a child does when it is asked.
struct ProbeHands {
  std::function<std::unique_ptr<LinkProber>(const std::optional<Injection>&)> make_prober;
  /// Tells of each size's check as soon as it is known.
  std::function<void(const AllReduceStep&, const std::function<void(const AllReduceCheck&)>& tell)> check_all_reduce;
};

/// The child's loop: says `ready` once there is a prober, or `failed` and why; then answers each step with reports or checks and
/// `end`, or with `bye` and why if it goes. Ends with its input, or some time after `leave`, when its parent has gone. A step that
/// takes a minute ends the process.
int serve_steps(int in, int out, const ProbeHands& hands);

}  // namespace collectives
