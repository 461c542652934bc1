#pragma once

#include <collectives/error.hpp>
#include <new>
#include <string>

#include "nccl_shim/abi.hpp"

namespace collectives {

/// NCCL's code for an error of ours: whoever has to tell a wrong call from a lost peer can.
NcclResult nccl_result_of(ErrorCode code);

/// Keeps `text` as the process's last error, which is what ncclGetLastError gives, and returns `result`.
NcclResult remember_nccl_error(NcclResult result, const char* function, const char* text) noexcept;
/// The last error's text. The pointer holds until this thread asks again.
const char* last_nccl_error() noexcept;

/// A failure inside a group makes its end fail as well.
void spoil_group(NcclResult result) noexcept;

/// Runs `body`, which returns an NcclResult, and turns what it throws into one: no exception crosses the C edge.
template <typename Body>
NcclResult nccl_guard(const char* function, Body&& body) noexcept {
  NcclResult result = nccl_success;
  try {
    return body();
  } catch (const Error& error) {
    result = remember_nccl_error(nccl_result_of(error.code()), function, error.what());
  } catch (const std::bad_alloc&) {
    result = remember_nccl_error(nccl_system_error, function, "out of host memory");
  } catch (const std::exception& error) {
    result = remember_nccl_error(nccl_internal_error, function, error.what());
  } catch (...) {
    result = remember_nccl_error(nccl_internal_error, function, "an exception of unknown type");
  }
  spoil_group(result);
  return result;
}

}  // namespace collectives
