#pragma once

#include <hwloc.h>

namespace collectives {

/// hwloc as this library calls it, looked up when it is first needed: a program loads and runs where there is no libhwloc. What its
/// header defines inline calls functions by name and is not for use here, but for what only reads an object.
struct HwlocFunctions {
  decltype(&::hwloc_get_api_version) api_version = nullptr;
  decltype(&::hwloc_topology_init) init = nullptr;
  decltype(&::hwloc_topology_destroy) destroy = nullptr;
  decltype(&::hwloc_topology_set_components) set_components = nullptr;
  decltype(&::hwloc_topology_set_io_types_filter) set_io_types_filter = nullptr;
  decltype(&::hwloc_topology_load) load = nullptr;
  decltype(&::hwloc_get_nbobjs_by_depth) count_at = nullptr;
  decltype(&::hwloc_get_obj_by_depth) object_at = nullptr;
  decltype(&::hwloc_bitmap_weight) weight = nullptr;
  decltype(&::hwloc_bitmap_first) first = nullptr;

  /// Is everything there, and of the version whose structures this was compiled with?
  bool usable() const;
};

/// Those of the library of this name; none of them if it cannot be loaded. It stays loaded.
HwlocFunctions open_hwloc(const char* name);

/// Those of this process's hwloc, or null if it has none; the first time, a line in the log says so.
const HwlocFunctions* hwloc_if_there();

}  // namespace collectives
