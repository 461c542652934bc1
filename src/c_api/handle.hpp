#pragma once

#include <collectives/collectives.h>
#include <collectives/communicator.hpp>
#include <string>

#include "base/require.hpp"

struct coll_comm {
  collectives::Communicator communicator;
};

namespace collectives {

/// What a pointer argument points to. Throws Error(invalid_argument) that names it if it is null.
template <typename T>
T& given(T* pointer, const char* what) {
  require(pointer != nullptr, [&] { return std::string(what) + " is null"; });
  return *pointer;
}

template <typename Comm>
auto& communicator_of(Comm* comm) {
  return given(comm, "the communicator").communicator;
}

}  // namespace collectives
