#pragma once

#include <optional>
#include <string>
#include <vector>

#include "planner/planner.hpp"
#include "topology/cache_file.hpp"

// What ranks measured of themselves, kept beside the doctor's verdicts for the next communicator on the same ranks.
namespace collectives {

/// These GPUs (CUDA ordinals) and their driver; empty if a GPU has no lasting name.
std::string identity_of_gpus(const Machine& machine, const std::vector<int>& devices);
/// This host's processors.
std::string identity_of_host();
/// What must be the same for timings to hold: the ranks, this version, and all that plans depend on, the model's own figures among it.
std::string timings_identity(const std::string& ranks, const Planner& planner);

/// What a file's text holds; nothing if it is too old or of another identity. Throws Error(invalid_argument) for text that is no such file's.
std::optional<Timings> timings_in(const std::string& text, const std::string& identity, std::int64_t now_s);
/// Nothing, and a line in the log unless there is no file, for a file that is another's, that others may write, too old, for another identity
/// or broken.
std::optional<Timings> read_timings(const std::filesystem::path& file, const std::string& identity, std::int64_t now_s);
/// Atomically, for its owner alone. Throws Error(system).
void write_timings(const std::filesystem::path& file, const std::string& identity, const Timings& timings);

/// The same in this user's cache. The latter is false, with a line in the log, where that cannot be done.
std::optional<Timings> cached_timings(const std::string& identity);
bool cache_timings(const std::string& identity, const Timings& timings);

}  // namespace collectives
