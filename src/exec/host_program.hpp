#pragma once

#include <collectives/plan.hpp>

#include <functional>

#include "kernels/mail.hpp"
#include "kernels/program.hpp"

namespace collectives {

/// Runs one call of one rank to its end in this thread: the kernels' own code, with a thread for a block. `relieve` is called
/// now and then while waiting.
void run_on_host(const kernels::ProgramArgs& args, DataType type, Wire wire, const std::function<void()>& relieve);

/// The same of sends and receives.
void run_mail_on_host(const kernels::MailArgs& args, const std::function<void()>& relieve);

}  // namespace collectives
