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

/// The child's loop: says `ready` once `make` has returned, or `failed` and why; then answers each step with reports and `end`,
/// or with `bye` if it goes. Ends with its input. A step that takes a minute ends the process.
int serve_steps(int in, int out, const std::function<std::unique_ptr<LinkProber>(const std::optional<Injection>&)>& make);

}  // namespace collectives
