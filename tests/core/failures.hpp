#pragma once

#include <functional>

#include "cases.hpp"

namespace seeded {

// Runs an operation again and again, with its first allocation refused, its second one, and so on. `alone`:
// on the calling thread only, so that all that is alive can be counted.
void refuse_each_allocation(bool alone, const std::function<void()>& operation);

}  // namespace seeded
