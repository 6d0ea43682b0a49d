// What fold does with sums, by their type: the neutral value before, division and rounding after.
#pragma once

#include "base/types.hpp"
#include "kernels/patch_contract.hpp"

namespace windrow {

Index number_bytes(Number number);  // as it comes in, and as it goes out
Index total_bytes(Number number);   // as sums are held: float16 in float32

// Writes `count` neutral values of the reduction: 0, or what every value is at least (at most) as great as.
void start_totals(Number number, Reduction reduction, char* totals, Index count);

struct Finish {
  Number number;
  bool complex_pairs;
  char* totals;  // `count` numbers; results take their place (float16: at the front)
  Index count;
  const char* divisor;  // one total per element, or null
  bool divide;
  const char* uncovered;
};
void finish_totals(const Finish& finish);

}  // namespace windrow
