#pragma once

#include <optional>
#include <string>

#include "cli/advice.hpp"
#include "cli/engines.hpp"

namespace cli {

/// What was asked and what came of it.
struct Advised {
  collectives::Machine machine;
  Model model;
  Advice advice;
  std::optional<Engine> engine;
  std::string visible;  ///< CUDA_VISIBLE_DEVICES where this machine was looked at, empty if it is not set
};

std::string advice_text(const Advised& advised);
std::string advice_json(const Advised& advised);

}  // namespace cli
