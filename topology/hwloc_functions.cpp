#include "topology/hwloc_functions.hpp"

#include "base/log.hpp"
#include "topology/library_function.hpp"

namespace collectives {
namespace {

// What the version of hwloc that was compiled with calls its library: its name changes with its structures.
constexpr const char* library_name = "libhwloc.so.15";
constexpr unsigned major_version = HWLOC_API_VERSION >> 16;
static_assert(major_version == 2, "libhwloc.so.15 is hwloc 2");

}  // namespace

bool HwlocFunctions::usable() const {
  return api_version && init && destroy && set_components && set_io_types_filter && load && count_at && object_at && weight && first && api_version() >> 16 == major_version;
}

HwlocFunctions open_hwloc(const char* name) {
  HwlocFunctions functions;
  void* library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) return functions;
  find(library, "hwloc_get_api_version", functions.api_version);
  find(library, "hwloc_topology_init", functions.init);
  find(library, "hwloc_topology_destroy", functions.destroy);
  find(library, "hwloc_topology_set_components", functions.set_components);
  find(library, "hwloc_topology_set_io_types_filter", functions.set_io_types_filter);
  find(library, "hwloc_topology_load", functions.load);
  find(library, "hwloc_get_nbobjs_by_depth", functions.count_at);
  find(library, "hwloc_get_obj_by_depth", functions.object_at);
  find(library, "hwloc_bitmap_weight", functions.weight);
  find(library, "hwloc_bitmap_first", functions.first);
  return functions;
}

const HwlocFunctions* hwloc_if_there() {
  static const HwlocFunctions functions = [] {
    const HwlocFunctions found = open_hwloc(library_name);
    if (!found.usable()) log(LogLevel::info, "no {} here: NUMA nodes are as /sys shows them", library_name);
    return found;
  }();
  return functions.usable() ? &functions : nullptr;
}

}  // namespace collectives
