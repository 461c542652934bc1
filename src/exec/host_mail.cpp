#include <vector>

#include "exec/host_group.hpp"
#include "exec/host_program.hpp"
#include "kernels/mail_body.hpp"

namespace collectives {
namespace {

using HostLane = kernels::MailLane<HostGroup, HostRelief>;

}  // namespace

// A thread has all lanes to itself: it moves whatever can move, so that none waits for another.
void run_mail_on_host(const kernels::MailArgs& args, const std::function<void()>& relieve) {
  std::vector<HostLane> lanes;
  for (int q = 0; q < args.queues; ++q) {
    const int end = q + 1 < args.queues ? args.queue[q + 1].first_block : args.blocks;
    for (int block = args.queue[q].first_block; block < end; ++block)
      lanes.emplace_back(args, args.queue[q], block - args.queue[q].first_block, HostGroup{}, HostRelief{&relieve});
  }
  for (bool left = !lanes.empty(); left;) {
    bool moved = false;
    left = false;
    for (HostLane& lane : lanes) {
      if (lane.done()) continue;
      left = true;
      if (!lane.ready()) continue;
      lane.move();
      moved = true;
    }
    if (moved) continue;
    for (HostLane& lane : lanes)
      if (!lane.done() && !lane.keep_waiting()) return;
  }
}

}  // namespace collectives
