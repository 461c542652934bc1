// Facts about what `collectives topo` prints, that no update of the golden files can hide.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <collectives/topology.hpp>
#include <filesystem>
#include <regex>

#include "cli.hpp"
#include "cli/drawing.hpp"
#include "cli/tree.hpp"
#include "test.hpp"

using namespace collectives;
using cli::Exit;

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

std::size_t depth_of(const std::string& line) { return line.find_first_not_of(' ') / 2; }

/// PATH for a scope.
class Path {
 public:
  explicit Path(const std::string& folder) : before_(std::getenv("PATH")) { setenv("PATH", folder.c_str(), 1); }
  ~Path() { setenv("PATH", before_.c_str(), 1); }

 private:
  std::string before_;
};

/// A folder for a scope, perhaps with a program `dot` in it.
class Folder {
 public:
  explicit Folder(const char* dot) {
    char name[] = "/tmp/collectives_cli_XXXXXX";
    path_ = mkdtemp(name);
    if (!dot) return;
    std::ofstream(path_ / "dot") << "#!/bin/sh\n" << dot;
    chmod((path_ / "dot").c_str(), 0700);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string file(const char* name) const { return path_ / name; }
  std::string path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace

TEST_CASE("the tree holds every node once, each GPU below what its slot leads to", "[cli][topo]") {
  for (const char* name : machine_files) {
    CAPTURE(name);
    const Machine machine = test_machine(name);
    const std::string tree = cli::tree_text(machine);
    const std::string forest = tree.substr(0, tree.find("\n\n"));
    const auto switches =
        std::count_if(machine.nodes.begin(), machine.nodes.end(), [](const Node& node) { return node.kind == NodeKind::nvswitch; });
    CHECK(lines_of(forest).size() == machine.nodes.size() - static_cast<std::size_t>(switches));
    const auto lines = lines_of(forest);
    for (const int gpu : machine.gpus()) {
      const Node& node = machine.nodes[static_cast<std::size_t>(gpu)];
      const auto own =
          std::find_if(lines.begin(), lines.end(), [&](const std::string& line) { return line.find(node.pci) != std::string::npos; });
      REQUIRE(own != lines.end());
      CHECK(depth_of(*own) >= 2);  // at least a root and a NUMA node above it
      auto root = own;
      while (depth_of(*root) > 0) --root;
      CHECK_THAT(*root, ContainsSubstring("NUMA " + std::to_string(node.numa)));
    }
  }
}

TEST_CASE("below a switch stand its GPUs and no others", "[cli][topo]") {
  const auto lines = lines_of(ask_of("pcie_switches_8x.json", {"topo"}).out);
  std::vector<std::vector<std::string>> below;
  for (const std::string& line : lines) {
    if (line.find("PCIe switch,") != std::string::npos) below.emplace_back();
    if (!below.empty() && line.find("      GPU") == 0) below.back().push_back(line.substr(6, 4));
  }
  CHECK(below == std::vector<std::vector<std::string>>{{"GPU0", "GPU1", "GPU2", "GPU3"}, {"GPU4", "GPU5", "GPU6", "GPU7"}});
}

TEST_CASE("a GPU that nothing leads to stands in the tree by itself", "[cli][topo]") {
  Machine machine;
  machine.nodes.resize(2);
  machine.nodes[0].device = 0;
  CHECK(cli::tree_text(machine) == "GPU0\nunseen0\n");
}

TEST_CASE("links that differ by direction say so", "[cli][topo]") {
  Machine machine = test_machine("pcie_2x.json");
  machine.links[0].gb_per_s = 13;
  CHECK_THAT(cli::tree_text(machine), ContainsSubstring("13 GB/s up, 26.3 down"));
}

TEST_CASE("the matrix has refused pairs with their reason", "[cli][topo]") {
  const Answer answer = ask_of("mixed_islands_7x.json", {"topo"});
  CHECK(count_of(answer.out, "NODE --") == 32);
  CHECK_THAT(answer.out, ContainsSubstring("no peer access: the driver does not support it for GPUs of different chips"));
  CHECK(count_of(ask_of("nvswitch_8x.json", {"topo"}).out, "--") == 0);
  // In words, with a line on what may help.
  for (const char* name : machine_files)
    for (const std::string& line : lines_of(ask_of(name, {"topo"}).out))
      if (line.find("no peer access") == 0) CHECK(std::regex_match(line, std::regex("no peer access: [^;]+; what may help: .+ \\(GPU[0-9]+>GPU.*\\)")));
}

TEST_CASE("a name cannot steer the terminal", "[cli][topo]") {
  Machine machine = test_machine("pcie_2x.json");
  machine.nodes[0].name = "GPU\x1b[2Jevil\n";
  CHECK(cli::tree_text(machine).find('\x1b') == std::string::npos);
  CHECK(cli::to_dot(machine).find('\x1b') == std::string::npos);
}

TEST_CASE("what topo exports is the machine", "[cli][topo]") {
  for (const char* name : machine_files) {
    CAPTURE(name);
    CHECK(machine_from_json(ask_of(name, {"topo", "--export", "json"}).out) == test_machine(name));
    CHECK(ask_of(name, {"topo", "--json"}).out == ask_of(name, {"topo", "--export", "json"}).out);
    const Machine again = machine_from_text(ask_of(name, {"topo", "--export", "nccl"}).out);
    CHECK(again.gpus().size() == test_machine(name).gpus().size());
  }
  CHECK(ask_of("pcie_2x.json", {"topo", "--export", "yaml"}).exit == Exit::unusable);
  CHECK(ask_of("pcie_2x.json", {"topo", "--export", "json", "--dot"}).exit == Exit::unusable);
}

TEST_CASE("the drawing has every node, each link once and refusals as dots", "[cli][topo]") {
  for (const char* name : machine_files) {
    CAPTURE(name);
    const Machine machine = test_machine(name);
    const std::string dot = ask_of(name, {"topo", "--dot"}).out;
    const auto joints = count_of(dot, "shape=plaintext");
    CHECK(count_of(dot, "shape=") - joints == machine.nodes.size());
    CHECK(count_of(dot, " -> ") - joints - count_of(dot, "style=dotted") - count_of(dot, "style=invis") == machine.links.size() / 2);
    const auto refused =
        std::count_if(machine.peers.begin(), machine.peers.end(), [](const Peer& peer) { return !peer.access && peer.from < peer.to; });
    CHECK(count_of(dot, "style=dotted") == static_cast<std::size_t>(refused));
  }
}

TEST_CASE("the drawing has CPUs above, GPUs in a row, and NVSwitches below", "[cli][topo]") {
  const Machine machine = test_machine("nvswitch_8x.json");
  const auto level = [&](int node) {
    const NodeKind kind = machine.nodes[static_cast<std::size_t>(node)].kind;
    return kind == NodeKind::cpu ? 0 : kind == NodeKind::nvswitch ? 3 : kind == NodeKind::gpu ? 2 : 1;
  };
  const std::string dot = cli::to_dot(machine);
  const std::regex line("n([0-9]+) -> n([0-9]+) \\[([^\n]*)");
  int lines = 0, free = 0;
  for (auto found = std::sregex_iterator(dot.begin(), dot.end(), line); found != std::sregex_iterator(); ++found) {
    if ((*found)[3].str().find("invis") != std::string::npos) continue;
    const int upper = level(std::stoi((*found)[1])), lower = level(std::stoi((*found)[2]));
    const bool is_free = (*found)[3].str().find("constraint=false") != std::string::npos;
    ++lines;
    free += is_free;
    CAPTURE(found->str());
    CHECK((is_free ? upper == lower : upper < lower));
  }
  CHECK(lines > 16);
  CHECK(free == 1);  // the CPUs' own
  // One that leads up is drawn as an arrow back.
  Machine uneven = test_machine("pcie_2x.json");
  uneven.links[0].gb_per_s = 13;
  CHECK(count_of(cli::to_dot(uneven), "dir=back") == 1);
  CHECK(count_of(cli::to_dot(uneven), "dir=forward") == 1);
}

TEST_CASE("a name with quotes stays one label of the drawing", "[cli][topo]") {
  Machine machine = test_machine("pcie_2x.json");
  machine.nodes[0].name = "a \"b\\\" c";
  CHECK_THAT(cli::to_dot(machine), ContainsSubstring("[label=\"GPU0\\na \\\"b\\\\\\\" c\", shape"));
}

TEST_CASE("the drawing goes through Graphviz's dot into the file", "[cli][topo]") {
  // Stands in for dot: writes its arguments and what it was given to the file of -o.
  const Folder folder("{ echo \"$1\"; /bin/cat; } > \"${2#-o}\"\n");
  const Path path(folder.path());
  const Answer answer = ask_of("chain_3x.json", {"topo", "--svg", folder.file("machine.svg")});
  CHECK(answer.err == "");
  CHECK(answer.exit == Exit::healthy);
  std::ifstream file(folder.file("machine.svg"));
  const std::string written{std::istreambuf_iterator<char>(file), {}};
  CHECK(written == "-Tsvg\n" + ask_of("chain_3x.json", {"topo", "--dot"}).out);
}

TEST_CASE("without Graphviz a drawing is an error that says what to install", "[cli][topo]") {
  const Folder folder(nullptr);
  const Path path(folder.path());
  const Answer answer = ask_of("chain_3x.json", {"topo", "--svg", folder.file("machine.svg")});
  CHECK(answer.exit == Exit::unusable);
  CHECK_THAT(answer.err, ContainsSubstring("install the package graphviz"));
}

TEST_CASE("what dot complains about is passed on", "[cli][topo]") {
  const Folder folder("echo no room left >&2\nexit 1\n");
  const Path path(folder.path());
  const Answer answer = ask_of("chain_3x.json", {"topo", "--svg", folder.file("machine.svg")});
  CHECK(answer.exit == Exit::unusable);
  CHECK_THAT(answer.err, ContainsSubstring("no room left"));
}
