#pragma once

#include <collectives/types.hpp>
#include <stdexcept>
#include <string>

namespace collectives {

/// What went wrong, coarse enough to branch on. The numbers are part of the C interface; 0 is success there.
enum class ErrorCode : int {
  invalid_argument = 1,  ///< the caller's mistake; nothing was enqueued and the communicator stays usable
  invalid_usage = 2,     ///< a call that is right by itself at a wrong moment: capture misuse, use after abort
  peer_lost = 3,         ///< a rank died or left; the communicator is dead
  mismatch = 4,          ///< ranks made different calls; the communicator is dead
  timeout = 5,           ///< a rank did not come within the deadline; the communicator is dead
  aborted = 6,           ///< `abort` was called here or by a peer; the communicator is dead
  out_of_memory = 7,     ///< the pool or the device has not what was needed
  unsupported = 8,       ///< this machine, driver or build cannot do it
  system = 9,            ///< an operating-system call failed
  device = 10,           ///< a CUDA call failed or a device is in error
  internal = 11,         ///< a fault of this library
};

constexpr const char* name_of(ErrorCode code) {
  constexpr const char* names[] = {"success",       "invalid argument", "invalid usage", "peer lost", "mismatched calls", "timeout", "aborted",
                                   "out of memory", "unsupported",      "system error",  "device error", "internal error"};
  const int index = static_cast<int>(code);
  return index >= 0 && index < 12 ? names[index] : "unknown error";
}

/// The one exception of this library. `what()` says what was expected and what was found.
class COLLECTIVES_EXPORT Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace collectives
