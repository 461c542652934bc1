#include "comm/check.hpp"
#include "topology/verify_serve.hpp"

namespace collectives {

int serve_probe(int in, int out) {
  return serve_steps(in, out, {.make_prober = make_link_prober, .check_all_reduce = [](const AllReduceStep& step, const auto& tell) {
                                 Options options;
                                 options.backend = Backend::cuda;
                                 options.timeout_ms = step.timeout_ms;
                                 if (step.through_host) options.mode = PeerMode::host;
                                 check_all_reduce(step.devices, options, step.bytes, tell);
                               }});
}

}  // namespace collectives
