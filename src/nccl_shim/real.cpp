#include "nccl_shim/real.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "base/env.hpp"
#include "base/log.hpp"

namespace collectives {
namespace {

constexpr const char* library_name = "libnccl.so.2";

struct LibraryCloser {
  void operator()(void* library) const { (void)::dlclose(library); }
};
using Library = std::unique_ptr<void, LibraryCloser>;

/// The files of what this process has loaded; the program itself has an empty name.
std::vector<std::string> loaded_objects() {
  std::vector<std::string> names;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* into) {
        static_cast<std::vector<std::string>*>(into)->emplace_back(info->dlpi_name != nullptr ? info->dlpi_name : "");
        return 0;
      },
      &names);
  return names;
}

/// Where the loader looks for what this object needs: its own paths, LD_LIBRARY_PATH, the system's.
std::vector<std::string> search_path_of(const std::string& object) {
  const Library library(::dlopen(object.empty() ? nullptr : object.c_str(), RTLD_LAZY | RTLD_NOLOAD));
  Dl_serinfo size{};
  if (!library || ::dlinfo(library.get(), RTLD_DI_SERINFOSIZE, &size) != 0) return {};
  std::vector<std::max_align_t> memory(size.dls_size / sizeof(std::max_align_t) + 1);
  auto* info = reinterpret_cast<Dl_serinfo*>(memory.data());
  if (::dlinfo(library.get(), RTLD_DI_SERINFOSIZE, info) != 0 || ::dlinfo(library.get(), RTLD_DI_SERINFO, info) != 0) return {};
  std::vector<std::string> path;
  for (unsigned i = 0; i < info->dls_cnt; ++i) path.emplace_back(info->dls_serpath[i].dls_name);
  return path;
}

struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

FileIdentity identity_of_file(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? FileIdentity{status.st_dev, status.st_ino} : FileIdentity{};
}

FileIdentity this_library() {
  Dl_info info{};
  return ::dladdr(reinterpret_cast<const void*>(&real_nccl_if_open), &info) != 0 ? identity_of_file(info.dli_fname) : FileIdentity{};
}

std::vector<std::string> candidates() {
  std::vector<std::string> directories;
  for (const auto& object : loaded_objects())
    for (auto& directory : search_path_of(object))
      if (std::find(directories.begin(), directories.end(), directory) == directories.end()) directories.push_back(std::move(directory));
  directories.emplace_back("/usr/local/cuda/lib64");  // which the loader knows by its cache alone
  std::vector<std::string> files;
  const FileIdentity own = this_library();
  for (const auto& directory : directories) {
    auto file = directory + "/" + library_name;
    const FileIdentity found = identity_of_file(file);
    if (found.inode != 0 && found != own) files.push_back(std::move(file));
  }
  return files;
}

/// Its own functions before ours of the same names, which stand in front of it.
NcclFunctions open_real(const std::string& named) {
  std::string tried;
  for (const auto& file : named.empty() ? candidates() : std::vector<std::string>{named}) {
    const FileIdentity found = identity_of_file(file);
    require(found.inode == 0 || found != this_library(), [&] { return fmt::format("{} is this library itself: expected NCCL's", file); }, ErrorCode::unsupported);
    if (found.inode == 0) {
      tried += fmt::format("; {}: no such file", file);
      continue;
    }
    if (void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND)) {
      const NcclFunctions all = load_nccl_functions(library);
      require(all.get_version != nullptr && all.get_unique_id != nullptr && all.comm_init_rank != nullptr && all.group_start != nullptr && all.group_end != nullptr,
              [&] { return fmt::format("{} is no NCCL: expected ncclCommInitRank and others in it", file); }, ErrorCode::unsupported);
      int version = 0;
      (void)all.get_version(&version);
      log(LogLevel::info, "NCCL {} is {}", version, file);
      return all;
    }
    tried += fmt::format("; {}", ::dlerror());
  }
  throw Error(ErrorCode::unsupported,
              fmt::format("there is no NCCL to turn to (COLLECTIVES_NCCL_FALLBACK names its {}){}", library_name, tried.empty() ? ": none is in the loader's search path" : tried));
}

std::mutex opening;
std::atomic<const NcclFunctions*> opened{nullptr};

}  // namespace

const NcclFunctions* real_nccl_if_open() { return opened.load(std::memory_order_acquire); }

const NcclFunctions& real_nccl() {
  if (const auto* all = real_nccl_if_open()) return *all;
  const std::lock_guard lock(opening);
  if (const auto* all = real_nccl_if_open()) return *all;
  // Never closed and never destroyed: its threads live as long as the process.
  const auto* all = new NcclFunctions(open_real(read_environment().nccl_fallback));
  opened.store(all, std::memory_order_release);
  return *all;
}

bool has_real_nccl() {
  try {
    (void)real_nccl();
    return true;
  } catch (const Error&) {
    return false;
  }
}

const NcclFunctions* forwarding() {
  static const bool disabled = [] {
    const bool wanted = read_environment().disable;
    if (wanted) log(LogLevel::info, "mode nccl: NCCL serves every call, as COLLECTIVES_DISABLE=1 says");
    return wanted;
  }();
  return disabled ? &real_nccl() : nullptr;
}

void real_check(const NcclFunctions& real, NcclResult result) {
  constexpr ErrorCode codes[] = {ErrorCode::internal, ErrorCode::device,        ErrorCode::system,   ErrorCode::internal,
                                 ErrorCode::invalid_argument, ErrorCode::invalid_usage, ErrorCode::peer_lost};
  if (result == nccl_success) return;
  const ErrorCode code = result > 0 && result < nccl_in_progress ? codes[result] : ErrorCode::internal;
  throw Error(code, fmt::format("NCCL: {} ({})", real.get_error_string(result), real.get_last_error(nullptr)));
}

}  // namespace collectives
