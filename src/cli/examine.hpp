#pragma once

#include <collectives/verify.hpp>
#include <functional>

#include "cli/diagnosis.hpp"

namespace cli {

/// Looks at the machine that `look` describes. Contexts take CUDA seconds to make and to end, so one child does all that needs them, from
/// before `look` is called; when its last report has come it is left to itself. Verdicts are kept unless a fault is injected. Throws
/// Error(system) where no child can be started, and what `look` throws.
Examination examine(const collectives::VerifyOptions& options, const std::function<collectives::Machine()>& look);

}  // namespace cli
