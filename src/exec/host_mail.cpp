#include <variant>
#include <vector>

#include "exec/host_group.hpp"
#include "exec/host_program.hpp"
#include "kernels/mail_body.hpp"

namespace collectives {
namespace {

template <typename Form, typename Wire>
using HostLane = kernels::MailLane<Form, Wire, HostGroup, HostRelief>;
using Flagged = kernels::FlaggedWire<std::uint8_t>;
using AnyHostLane = std::variant<HostLane<kernels::AnyMail, Flagged>, HostLane<kernels::AnyMail, kernels::EscapedWire>,
                                 HostLane<kernels::PlainMail, kernels::EscapedWire>, HostLane<kernels::SingleMail, kernels::EscapedWire>>;

AnyHostLane lane_of(const kernels::MailArgs& args, const kernels::MailQueue& queue, int lane, HostRelief relief) {
  const kernels::MessageArgs* messages = args.message + queue.first;
  const auto make = [&]<typename Form, typename Wire>() { return AnyHostLane(std::in_place_type<HostLane<Form, Wire>>, args, queue, messages, lane, HostGroup{}, relief); };
  using kernels::EscapedWire;
  if (!queue.escaped) return make.operator()<kernels::AnyMail, Flagged>();
  // As for a GPU, where these three are kernels.
  if (is_single(args, queue, messages)) return make.operator()<kernels::SingleMail, EscapedWire>();
  return is_plain(queue, messages) ? make.operator()<kernels::PlainMail, EscapedWire>() : make.operator()<kernels::AnyMail, EscapedWire>();
}

std::vector<AnyHostLane> lanes_of(const kernels::MailArgs& args, HostRelief relief) {
  std::vector<AnyHostLane> lanes;
  for (int q = 0; q < args.queues; ++q)
    for (int lane = 0; lane < args.queue[q].lanes; ++lane) lanes.push_back(lane_of(args, args.queue[q], lane, relief));
  return lanes;
}

enum class Turn { over, moved, waits, failed };

template <typename Lane>
Turn take_turn(Lane& lane) {
  if (lane.done()) return Turn::over;
  if (!lane.ready()) return lane.failed() ? Turn::failed : Turn::waits;
  lane.move();
  if (lane.failed()) return Turn::failed;
  if (lane.done()) lane.finish();
  return Turn::moved;
}

}  // namespace

// A thread has all lanes to itself: it moves whatever can move, so that none waits for another.
void run_mail_on_host(const kernels::MailArgs& args, const std::function<void()>& relieve) {
  std::vector<AnyHostLane> lanes = lanes_of(args, HostRelief{&relieve});
  for (bool left = !lanes.empty(); left;) {
    bool moved = false;
    left = false;
    for (AnyHostLane& any : lanes) {
      const Turn turn = std::visit([](auto& lane) { return take_turn(lane); }, any);
      if (turn == Turn::failed) return;
      moved = moved || turn == Turn::moved;
      left = left || turn != Turn::over;
    }
    if (moved) continue;
    for (AnyHostLane& any : lanes)
      if (!std::visit([](auto& lane) { return lane.done() || lane.keep_waiting(); }, any)) return;
  }
}

}  // namespace collectives
