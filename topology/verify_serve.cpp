#include "topology/verify_serve.hpp"

#include <unistd.h>

#include <algorithm>

#include "base/require.hpp"

namespace collectives {
namespace {

constexpr unsigned longest_step_s = 60;

bool say(int out, const std::string& line) {
  const std::string text = line + "\n";
  return ::write(out, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

/// The next line; empty at the end of the input.
std::string hear(int in) {
  std::string line;
  char c = 0;
  while (::read(in, &c, 1) == 1 && c != '\n') line += c;
  return line;
}

bool is_at(const ProbeStep& step, const Injection& injection) {
  return std::find(step.pairs.begin(), step.pairs.end(), injection.pair) != step.pairs.end();
}

/// Until the parent's patience ends.
[[noreturn]] void never_return() {
  for (;;) ::pause();
}

/// The parent goes first: the driver may serve one process after the other, and this one has more to end.
[[noreturn]] void leave() {
  ::usleep(200'000);
  ::_exit(0);
}

}  // namespace

int serve_steps(int in, int out, const ProbeHands& hands) {
  ::alarm(longest_step_s);
  std::string line = hear(in);
  std::optional<Injection> injection;
  std::unique_ptr<LinkProber> prober;
  // The other side is a pipe: what is thrown here must be told over it.
  try {
    if (line.starts_with("inject")) injection = injection_from_line(line), line = hear(in);
    if (line != "begin") return 1;
    prober = hands.make_prober(injection);
  } catch (const std::exception& error) {
    say(out, "failed " + in_one_line(error.what()));
    return 1;
  }
  if (!say(out, "ready")) return 1;
  for (line = hear(in); !line.empty(); line = hear(in)) {
    ::alarm(longest_step_s);
    if (line == "leave") leave();
    try {
      if (line.starts_with("all_reduce")) {
        prober.reset();  // its memory is the ranks' now
        hands.check_all_reduce(all_reduce_step_from_line(line), [&](const AllReduceCheck& check) {
          ::alarm(longest_step_s);
          say(out, to_line(check));
        });
      } else {
        const ProbeStep step = step_from_line(line);
        if (injection && injection->kind == Injection::Kind::hang && is_at(step, *injection)) never_return();
        if (!prober) prober = hands.make_prober(injection);
        for (const Report& report : prober->run(step)) say(out, to_line(report));
      }
    } catch (const std::exception& error) {
      say(out, "bye " + in_one_line(error.what()));
      return 1;
    }
    if (!say(out, "end")) return 1;
  }
  return 0;
}

}  // namespace collectives
