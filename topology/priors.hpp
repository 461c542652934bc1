#pragma once

#include <collectives/topology.hpp>
#include <cstdint>
#include <string_view>

namespace collectives {

/// What to expect of a path between two GPUs before anything is measured: one flow of stores, and the time from a store to
/// the poll that sees it.
struct Rate {
  double gb_per_s = 0;
  double latency_us = 0;
};

/// The links of "NV18", 0 for every other path.
int nvlinks_of(std::string_view path);

/// NVLinks of a whole GPU; 0 if the chip is not known. More than these between a GPU and all its peers means a switch.
int nvlinks_per_gpu(int compute_capability);

/// One NVLink's nominal rate in one direction, by the version code of NVML and the chip.
double nvlink_line_gb_per_s(unsigned version, int compute_capability);

/// The same where only the chip is known, or not even that.
double nvlink_line_gb_per_s(int compute_capability);

/// "16.0 GT/s PCIe", "8 GT/s" and the like, as the kernel and NCCL write speeds, as a generation; 0 for anything else.
unsigned pcie_generation(std::string_view speed);

/// What stores reach through a PCIe slot, by generation and lanes; 0 if either is not known.
double slot_gb_per_s(unsigned generation, unsigned width);

/// The same for the slot that a chip of this kind usually has.
double usual_slot_gb_per_s(int compute_capability);

/// One root of a CPU, to its memory and to its other roots: half of the 114 GB/s that 8 GPUs on two roots of a Threadripper PRO
/// read from memory together.
inline constexpr double root_gb_per_s = 57;

/// Between two NUMA nodes, in one direction: 39 GB/s measured for one flow between two sockets of EPYC Genoa.
inline constexpr double socket_gb_per_s = 39;

/// A direct path, by its name and the lesser of the two chips. `slot` is the slower of the two slots.
Rate direct_rate(std::string_view path, int compute_capability, double slot);

/// The way through pinned host memory for two GPUs that do not reach each other.
Rate staged_rate(double slot);

/// Two ranks on one GPU.
inline constexpr Rate local_rate{.gb_per_s = 1000, .latency_us = 0.7};

/// NVSwitch: what a GPU sends to all its peers at once, as a part of one flow. 355 of 370 GB/s on 8 H200.
inline constexpr double switched_share = 0.96;

/// Links of healthy PCIe when all flows run at once, as a part of one flow alone: eight GPUs below two switches reached 50.1 to
/// 50.6 of 56 GB/s, and 0.905 of what max-min sharing predicts for every way of crossing the switches (WRX90, staggered writes).
inline constexpr double healthy_pcie = 0.905;

/// What a GPU stores to three or more peers at once through a CPU's root, as a part of one flow. Four RTX PRO 6000 in Gen5
/// slots of one socket: 25.4 of 44.8 GB/s.
inline constexpr double root_share = 0.57;

/// A link between sockets whose rate is not known, in slots: two flows together got 36 to 40 GB/s on Genoa and on Turin with
/// switches, one 50 on Turin without, where a slot has 56.
inline constexpr double socket_slots = 0.75;

/// Memory of a NUMA node, in slots of the fastest GPU that uses it: what is written and read again. NCCL without peers moved 24.8
/// GB/s of bus bandwidth on each of 4 H200, 99 GB/s through memory beside slots of 56.
inline constexpr double host_memory_slots = 1.75;

/// The same of a virtual machine, which does not tell of how many nodes its memory is: there four H200 with slots of 56 GB/s stored 144 GB/s
/// at once, or loaded 176.
inline constexpr double virtual_memory_slots = 2.57;

/// What a GPU stores to pinned host memory, and what it loads from it, while all GPUs do so: each of four H200 in slots of 56 GB/s. What a slower slot
/// loses so was not measured: it keeps what it carries.
inline constexpr double host_store_gb_per_s = 36, host_load_gb_per_s = 44;

/// Faster than any slot of PCIe 5: a rate measured above it came by NVLink.
inline constexpr double fastest_slot_gb_per_s = 64;

/// MB/s of GB/s and ns of us, as plans count them: rounded, within 32 bits, and never 0, which would make a plan's time infinite.
std::uint32_t thousandths(double value);

/// Does a path leave the PCIe switches for a CPU's root?
bool crosses_root(std::string_view path);

}  // namespace collectives
