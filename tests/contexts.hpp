#pragma once

namespace collectives {

/// Looks at the machine as the doctor does and counts the GPUs on which that made a context; -1 if the driver does not say. For a process
/// that has used no GPU before.
int contexts_of_looking();

}  // namespace collectives
