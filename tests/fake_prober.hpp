#pragma once

#include <collectives/verify.hpp>
#include <string>
#include <vector>

namespace collectives {

/// The command that runs this very program as a prober of links, real ones or such as `faults` describes.
std::vector<std::string> real_prober();
std::vector<std::string> fake_prober(const std::vector<std::string>& faults = {});

/// The child's side of the fake: links that are made up, all-reduces of real CPU ranks, of 64 KiB at most. A link's fault is
/// `what:method:from-to`; `what` is wrong, late, refused, hang (never comes back), die (a signal), throw, crawl (1 GB/s) or slow (the
/// same when another flow runs, too). An all-reduce's is `what:all_reduce:bytes`, through host memory `what:host:bytes`; `what` is
/// hang, die or throw. Alone stand `stillborn` (never gets ready and says so), `comatose` (does not say so), `complain` (a line on
/// standard error) and `stay:fd` (until the other end of this pipe is closed).
int serve_fake_probe(const std::vector<std::string>& faults);

}  // namespace collectives
