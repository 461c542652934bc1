#include "nccl_shim/notice.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

#include "base/env.hpp"
#include "base/file_descriptor.hpp"
#include "base/require.hpp"

namespace collectives {
namespace {

constexpr std::size_t largest_notice = 4096;

std::uint64_t hash_of(const std::string& text, std::uint64_t hash) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;  // FNV-1a
  return hash;
}

/// Where a notice of this name may be: the same places in the same order in every process of this user.
std::vector<std::string> paths_of(const std::string& name) {
  std::vector<std::string> paths;
  for (const auto& directory : runtime_directories())
    paths.push_back(fmt::format("{}/collectives-{:016x}{:016x}", directory, hash_of(name, 0xcbf29ce484222325u), hash_of(name, 0x9ae16a3b2f90404fu)));
  return paths;
}

/// Written aside and then given its name: whoever finds it finds all of it.
bool write_file(const std::string& path, std::span<const std::uint8_t> bytes) {
  static std::atomic<unsigned> serial{0};
  const std::string aside = fmt::format("{}.{}.{}", path, ::getpid(), serial++);
  const FileDescriptor file(::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) return false;
  const bool done = ::write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()) && ::rename(aside.c_str(), path.c_str()) == 0;
  if (!done) (void)::unlink(aside.c_str());
  return done;
}

std::optional<std::vector<std::uint8_t>> read_file(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  // Another user's file of this name is not what was left for us.
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != ::geteuid()) return std::nullopt;
  std::vector<std::uint8_t> bytes(largest_notice);
  const ssize_t count = ::read(file.get(), bytes.data(), bytes.size());
  if (count < 0) return std::nullopt;
  bytes.resize(static_cast<std::size_t>(count));
  return bytes;
}

}  // namespace

Notice::Notice(const std::string& name, std::span<const std::uint8_t> bytes) {
  ensure(bytes.size() <= largest_notice, "a notice is short");
  for (auto& path : paths_of(name))
    if (write_file(path, bytes)) {
      path_ = std::move(path);
      return;
    }
  throw Error(ErrorCode::system, "no directory for the ranks to find each other in: set TMPDIR to one that can be written");
}

Notice::~Notice() { (void)::unlink(path_.c_str()); }

std::vector<std::uint8_t> read_notice(const std::string& name, std::uint32_t timeout_ms) {
  const auto paths = paths_of(name);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  for (auto pause = std::chrono::milliseconds(1);; pause = std::min(2 * pause, std::chrono::milliseconds(20))) {
    for (const auto& path : paths)
      if (auto bytes = read_file(path)) return *bytes;
    require(std::chrono::steady_clock::now() < deadline, [&] { return fmt::format("the rank that brings the others together did not come within {} ms", timeout_ms); },
            ErrorCode::timeout);
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace collectives
