#pragma once

#include <collectives/collectives.h>
#include <collectives/error.hpp>
#include <new>
#include <utility>

namespace collectives {

/// Keeps `message` for this thread's coll_last_error, cut off at its buffer, and returns `error`. Allocates nothing.
coll_error remember(coll_error error, const char* message) noexcept;

/// Runs `body` and turns what it throws into an error code: no exception crosses the C edge.
template <typename Body>
coll_error guard(Body&& body) noexcept {
  try {
    std::forward<Body>(body)();
    return coll_success;
  } catch (const Error& error) {
    return remember(static_cast<coll_error>(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return remember(coll_out_of_memory, "out of host memory");
  } catch (const std::exception& error) {
    return remember(coll_internal_error, error.what());
  } catch (...) {
    return remember(coll_internal_error, "an exception of unknown type");
  }
}

}  // namespace collectives
