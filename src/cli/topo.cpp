#include <fmt/format.h>

#include <collectives/topology.hpp>

#include "cli/command.hpp"
#include "cli/drawing.hpp"
#include "cli/options.hpp"
#include "cli/text.hpp"
#include "cli/tree.hpp"

namespace cli {
namespace {

using collectives::Machine;

std::string heading(const Machine& machine) {
  std::string out = machine.name.empty() ? "Machine" : printable(machine.name);
  if (!machine.driver.empty()) out += fmt::format(", driver {}", printable(machine.driver));
  if (!machine.hypervisor.empty()) out += fmt::format(", virtual machine under {}", printable(machine.hypervisor));
  if (!machine.iommu.empty()) out += fmt::format(", IOMMU {}", printable(machine.iommu));
  return out + "\n\n";
}

}  // namespace

Exit run_topo(const Words& words, std::ostream& out) {
  CLI::App app("The machine: matrix of peers, tree of switches, what is refused and why", "collectives topo");
  CommonOptions common;
  std::string format, svg;
  bool dot = false;
  add_common_options(app, common);
  auto* const exported = app.add_option("--export", format, "the machine file, or what NCCL reads from NCCL_TOPO_FILE")
                             ->check(CLI::IsMember({"json", "nccl"}));
  auto* const drawn = app.add_flag("--dot", dot, "the drawing in Graphviz's language");
  auto* const svg_option = app.add_option("--svg", svg, "the drawing as a file, by Graphviz's dot")->type_name("FILE");
  exported->excludes(drawn)->excludes(svg_option);
  drawn->excludes(svg_option);
  app.footer("--json is --export json. Rates that no source gave are priors of the kind of path; `doctor` measures them.");
  if (!parse(app, words, out)) return Exit::healthy;

  const Machine machine = machine_of(common);
  if (!svg.empty()) {
    write_svg(to_dot(machine), svg);
  } else if (dot) {
    out << to_dot(machine);
  } else if (format == "nccl") {
    out << collectives::to_nccl_xml(machine);
  } else if (common.json || format == "json") {
    out << collectives::to_json(machine);
  } else {
    out << heading(machine) << collectives::peer_table(machine) << "\n" << tree_text(machine);
  }
  return Exit::healthy;
}

}  // namespace cli
