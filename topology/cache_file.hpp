#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

// Files in the user's cache that decide how ranks work together: nobody else may have a hand in them.
namespace collectives {

inline constexpr std::int64_t cache_lifetime_s = 30 * 24 * 3600;

std::uint64_t hash_of(std::string_view text);

/// Where what is of this identity is kept, NAME-HASH.json; nothing if this user has no cache.
std::optional<std::filesystem::path> cache_file(std::string_view name, std::string_view identity);

/// The file's text; nothing if there is no such file. Throws Error for one that is another's or that others may write, that is no
/// regular file, or too large.
std::optional<std::string> read_cache_file(const std::filesystem::path& file);

/// Replaces the file as a whole, for its owner alone. Throws Error(system).
void write_cache_file(const std::filesystem::path& file, std::string_view text);

}  // namespace collectives
