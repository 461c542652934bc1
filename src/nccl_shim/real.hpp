#pragma once

#include <string>

#include "base/require.hpp"
#include "nccl_shim/abi.hpp"

namespace collectives {

/// The real library, opened when it is first asked for: the one that COLLECTIVES_NCCL_FALLBACK names, or the next libnccl.so.2 in
/// search order that is not this one. Throws Error(unsupported) that says what was tried.
const NcclFunctions& real_nccl();
/// The same if it has been opened, else null.
const NcclFunctions* real_nccl_if_open();
/// Can it be opened? Opens it.
bool has_real_nccl();

/// With COLLECTIVES_DISABLE=1 the real library, which then serves every call, else null. Throws as `real_nccl` does.
const NcclFunctions* forwarding();

/// `function`, unless the opened library does not have it: then throws Error(unsupported).
template <typename Function>
Function required(Function function, const char* name) {
  require(function != nullptr, [&] { return std::string("the NCCL that serves this call is too old: it has no ") + name; }, ErrorCode::unsupported);
  return function;
}

/// Throws an Error of the code that stands for `result`, with the real library's words, unless it is success.
void real_check(const NcclFunctions& real, NcclResult result);

}  // namespace collectives
