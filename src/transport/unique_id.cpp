#include "transport/unique_id.hpp"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <vector>

#include "base/env.hpp"
#include "base/require.hpp"

namespace collectives {
namespace {

constexpr std::uint32_t id_magic = 0x434f4c4c;
constexpr std::uint32_t id_version = 1;

/// The id's bytes. The checksum catches ids that were cut or mixed up on their way, not forgers: those would need the secret.
struct Layout {
  std::uint32_t magic = id_magic;
  std::uint32_t version = id_version;
  std::array<std::uint8_t, 16> secret{};
  std::array<char, longest_meeting_directory + 1> directory{};
  std::uint64_t checksum = 0;
};
static_assert(sizeof(Layout) == sizeof(UniqueId));

std::uint64_t checksum_of(const Layout& layout) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(&layout);
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (std::size_t i = 0; i < offsetof(Layout, checksum); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3u;
  return hash;
}

/// A fresh directory under `parent` that only this user can enter, or none with the reason.
std::optional<std::string> make_private_directory(const std::string& parent, std::string& reason) {
  std::string path = parent + "/collectives-XXXXXX";
  if (path.size() > longest_meeting_directory) {
    reason = fmt::format("the path has more than {} bytes", longest_meeting_directory);
    return std::nullopt;
  }
  struct stat status {};
  if (::stat(parent.c_str(), &status) != 0) {
    reason = std::strerror(errno);
    return std::nullopt;
  }
  // In a directory that everyone shares, such as /tmp, the sticky bit keeps strangers off our entry.
  if (status.st_uid != ::geteuid() && (status.st_mode & S_ISVTX) == 0) {
    reason = "it is another user's";
    return std::nullopt;
  }
  if (::mkdtemp(path.data()) == nullptr) {
    reason = std::strerror(errno);
    return std::nullopt;
  }
  return path;
}

/// The directories of this process's ids that nobody may have used. Those that are empty when it ends go with it: nobody listens there.
class UnusedDirectories {
 public:
  static UnusedDirectories& of_this_process() {
    // Never destroyed: the end of the process still reads it.
    static auto* all = new UnusedDirectories;
    return *all;
  }

  void add(const std::string& directory) {
    const std::lock_guard lock(mutex_);
    // A child that was forked has this list and not these directories.
    if (const pid_t own = ::getpid(); own != process_) {
      process_ = own;
      directories_.clear();
    }
    std::erase_if(directories_, [](const std::string& made) { return ::access(made.c_str(), F_OK) != 0; });
    directories_.push_back(directory);
  }

 private:
  UnusedDirectories() { (void)std::atexit([] { of_this_process().remove_all(); }); }

  void remove_all() {
    // Not locked: a child may have been forked while it was.
    if (process_ != ::getpid()) return;
    for (const std::string& directory : directories_) (void)::rmdir(directory.c_str());
  }

  std::mutex mutex_;
  pid_t process_ = -1;
  std::vector<std::string> directories_;
};

std::array<std::uint8_t, 16> random_bytes() {
  std::array<std::uint8_t, 16> bytes{};
  ssize_t count = -1;
  // So few bytes come whole or not at all.
  while ((count = ::getrandom(bytes.data(), bytes.size(), 0)) < 0 && errno == EINTR) continue;
  system_check(static_cast<int>(count), "getrandom");
  ensure(count == static_cast<ssize_t>(bytes.size()), "getrandom gave too few bytes");
  return bytes;
}

}  // namespace

UniqueId write_unique_id(const MeetingPlace& place) {
  ensure(place.directory.size() <= longest_meeting_directory, "the meeting directory does not fit an id");
  Layout layout;
  layout.secret = place.secret;
  std::memcpy(layout.directory.data(), place.directory.data(), place.directory.size());
  layout.checksum = checksum_of(layout);
  UniqueId id;
  std::memcpy(id.bytes.data(), &layout, sizeof layout);
  return id;
}

MeetingPlace read_unique_id(const UniqueId& id) {
  Layout layout;
  std::memcpy(&layout, id.bytes.data(), sizeof layout);
  require(layout.magic == id_magic && layout.checksum == checksum_of(layout),
          "this unique id is damaged or was not made by make_unique_id: expected its 128 bytes unchanged");
  require(layout.version == id_version,
          [&] { return fmt::format("this unique id has version {}: expected {}, made by the same library", layout.version, id_version); });
  require(layout.directory.front() == '/' && layout.directory.back() == '\0', "this unique id names no meeting directory");
  return {layout.directory.data(), layout.secret};
}

UniqueId make_unique_id() {
  MeetingPlace place{{}, random_bytes()};
  std::string tried;
  for (const auto& parent : runtime_directories()) {
    std::string reason;
    if (auto directory = make_private_directory(parent, reason)) {
      place.directory = *directory;
      UnusedDirectories::of_this_process().add(*directory);
      return write_unique_id(place);
    }
    tried += fmt::format("{}{}: {}", tried.empty() ? "" : "; ", parent, reason);
  }
  throw Error(ErrorCode::system, fmt::format("no directory for the ranks to meet in ({}): set TMPDIR to one that can be written", tried));
}

}  // namespace collectives
