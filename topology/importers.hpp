#pragma once

#include <collectives/topology.hpp>

#include "topology/source_text.hpp"

namespace collectives {

/// One importer a format. All throw Error(invalid_argument) with line, column and what was expected, and return a valid machine.
/// Nothing that they read off is more than `Evidence::claimed`, save figures that a test measured.

/// The matrices of `nvidia-smi topo -m` and `-p2p r|w|n|a|p`, in any order and with anything between them, as when their outputs
/// are put into one file. Without -p2p every path is taken to give access.
Machine read_smi(const SourceText& source);

/// What p2pBandwidthLatencyTest prints: a machine of GPUs in slots of one root, with what was measured.
Machine read_p2p_test(const SourceText& source);
/// The same figures put onto a machine that already has these GPUs, found by PCI address or else by CUDA ordinal.
void overlay_p2p_test(Machine& machine, const SourceText& source);

/// NCCL's topology, as NCCL_TOPO_DUMP_FILE writes it and NCCL_TOPO_FILE reads it, with RCCL's additions.
Machine read_nccl_xml(const SourceText& source);

/// hwloc's, as lstopo writes it.
Machine read_hwloc_xml(const SourceText& source);

/// Any of these and the project's own JSON, recognised by its content.
Machine read_any(const SourceText& source);

}  // namespace collectives
