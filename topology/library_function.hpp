#pragma once

#include <dlfcn.h>

namespace collectives {

/// A function of a library that was opened while this runs: null if it has none of that name.
template <typename Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
}

}  // namespace collectives
