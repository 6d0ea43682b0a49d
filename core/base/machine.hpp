// What the operating system lets this process use.
#pragma once

namespace windrow {

int usable_cores();  // min(affinity, cgroup quota), at least 1

}  // namespace windrow
