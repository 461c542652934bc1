#include <iostream>

#include "cli/command.hpp"

int main(int argc, char** argv) { return static_cast<int>(cli::run(cli::Words(argv + 1, argv + argc), std::cout, std::cerr)); }
