#pragma once

#include <collectives/verify.hpp>
#include <string>
#include <vector>

namespace collectives {

/// The command that runs this very program as a prober of links, real ones or such as `faults` describes.
std::vector<std::string> real_prober();
std::vector<std::string> fake_prober(const std::vector<std::string>& faults = {});

/// The child's side of the fake. A fault is `what:method:from-to`; `what` is wrong, late, refused, hang (never comes back), die (a
/// signal), throw or slow (when another flow runs, too); `stillborn` alone never gets ready.
int serve_fake_probe(const std::vector<std::string>& faults);

}  // namespace collectives
