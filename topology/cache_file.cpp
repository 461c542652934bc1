#include "topology/cache_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/env.hpp"
#include "base/file_descriptor.hpp"
#include "base/require.hpp"

namespace collectives {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t largest_file = 4u << 20;

}  // namespace

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

std::optional<fs::path> cache_file(std::string_view name, std::string_view identity) {
  const auto directory = cache_directory();
  if (!directory) return {};
  return fs::path(*directory) / fmt::format("{}-{:016x}.json", name, hash_of(identity));
}

std::optional<std::string> read_cache_file(const fs::path& file) {
  const FileDescriptor open(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!open && errno == ENOENT) return {};
  require(static_cast<bool>(open), "it cannot be opened", ErrorCode::system);
  struct stat status {};
  system_check(::fstat(open.get(), &status), "fstat");
  require(S_ISREG(status.st_mode) && status.st_uid == ::geteuid() && (status.st_mode & 022) == 0, "it is another's, or others may write it");
  require(static_cast<std::size_t>(status.st_size) <= largest_file, "it is too large");
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  const ssize_t count = ::read(open.get(), text.data(), text.size());
  text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  return text;
}

void write_cache_file(const fs::path& file, std::string_view text) {
  std::error_code error;
  fs::create_directories(file.parent_path().parent_path(), error);
  if (::mkdir(file.parent_path().c_str(), 0700) != 0 && errno != EEXIST) system_check(-1, fmt::format("mkdir {}", file.parent_path().string()));
  std::string name = file.string() + ".XXXXXX";
  const FileDescriptor open(system_check(::mkostemp(name.data(), O_CLOEXEC), fmt::format("mkostemp {}", name)));
  const bool written = ::write(open.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(open.get()) == 0;
  if (!written || ::rename(name.c_str(), file.c_str()) != 0) {
    const int cause = errno;
    (void)::unlink(name.c_str());
    errno = cause;
    system_check(-1, fmt::format("writing {}", file.string()));
  }
}

}  // namespace collectives
