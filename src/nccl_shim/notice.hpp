#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace collectives {

/// A few bytes that one process leaves for others of this user on this machine, under a name that only they know. Gone when this is.
class Notice {
 public:
  Notice(const std::string& name, std::span<const std::uint8_t> bytes);
  ~Notice();
  Notice(const Notice&) = delete;
  Notice& operator=(const Notice&) = delete;

 private:
  std::string path_;
};

/// Waits until there is a notice of this name. Throws Error(timeout) if none comes.
std::vector<std::uint8_t> read_notice(const std::string& name, std::uint32_t timeout_ms);

}  // namespace collectives
