#pragma once

#include <functional>

namespace collectives {

/// A host thread is a block of one.
struct HostGroup {
  static constexpr bool alone = true;
  static constexpr bool has_courier = false;
  static constexpr int thread() { return 0; }
  static constexpr int threads() { return 1; }
  static constexpr int block() { return 0; }
  static constexpr int blocks() { return 1; }
  static constexpr void sync() {}
  static constexpr bool any(bool own) { return own; }
};

/// What it does between tries.
struct HostRelief {
  const std::function<void()>* relieve;
  void operator()() const { (*relieve)(); }
};

}  // namespace collectives
