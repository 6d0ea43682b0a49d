// Nanoseconds for one of each kind of work, in the order of plan/costs.hpp, for each width of vectors in
// bytes and each dtype. `python -m benchmarks calibrate --write core/plan/costs_table.hpp` replaces rows, and
// says above each where it was measured.
// clang-format off
#pragma once

#include <array>

#include "plan/costs.hpp"

namespace windrow {

using Nanoseconds = std::array<double, kWorks>;

// portable, float32: AMD EPYC (AuthenticAMD 25 1 1), 2026-11-25.
constexpr Nanoseconds kVectors16Float32{0.364, 0.398, 0.328, 0.361, 0.41, 0.12, 0.18, 9.64, 4.54, 7.03, 5.9, 13.9, 0.653, 12.5, 1.83, 5.44, 21.9, 5.72, 4.53, 4.47, 2.54, 2.85, 3.6, 0, 1.09, 0.983, 4.61, 3.09, 5.19, 6.7, 1.13, 1.61, 0};
// portable, float64: AMD EPYC (AuthenticAMD 25 1 1), 2026-11-25.
constexpr Nanoseconds kVectors16Float64{0.401, 0.427, 0.375, 0.45, 0.422, 0.151, 0.317, 1.22, 2.74, 4.24, 3.48, 12.5, 0.921, 14.2, 1.3, 4.5, 11.6, 4.42, 5.5, 1.67, 0.407, 0.667, 1.17, 0.499, 3.72, 1.65, 5.93, 0, 6.68, 8.04, 0.821, 1.97, 0};
// x86_v3, float32: AMD EPYC (AuthenticAMD 25 1 1), 2026-11-25.
constexpr Nanoseconds kVectors32Float32{0.159, 0.197, 0.165, 0.188, 0.169, 0.18, 0.256, 11, 1.27, 1.67, 7.15, 7.7, 0.624, 12.6, 1.93, 7.21, 9.6, 3.25, 2.63, 2.57, 3.59, 1.02, 1.68, 0.676, 3.58, 1.35, 7.2, 2.86, 1.85, 4.3, 1.79, 5.24, 1.26};
// x86_v3, float64: AMD EPYC (AuthenticAMD 25 1 1), 2026-11-25.
constexpr Nanoseconds kVectors32Float64{0.166, 0.2, 0.186, 0.22, 0.162, 0.123, 0.257, 13.2, 1.16, 1.75, 3.91, 8, 0.979, 11.1, 1.82, 4.33, 8.6, 2.02, 1.79, 2.18, 4.2, 0.451, 1.12, 0.943, 6.12, 1.49, 5.56, 2.54, 0.00567, 4.1, 1.23, 4.62, 1.43};
// x86_v4, float32: Intel(R) Xeon(R) Processor (GenuineIntel 6 207 2), 2026-11-29.
constexpr Nanoseconds kVectors64Float32{0.174, 0.205, 0.2, 0.233, 0.183, 0.297, 0.243, 36.6, 1.13, 2, 7.07, 11.6, 1.26, 9.04, 2.39, 14.6, 18.1, 4.8, 2.66, 2.97, 4.43, 0.674, 0.816, 1.91, 3.11, 1.48, 10.6, 3.72, 2.91, 9.83, 6.12, 10.7, 0.606};
// x86_v4, float64: Intel(R) Xeon(R) Processor (GenuineIntel 6 207 2), 2026-11-29.
constexpr Nanoseconds kVectors64Float64{0.172, 0.212, 0.225, 0.286, 0.173, 0.229, 0.261, 44.3, 1.16, 2.01, 4.83, 13.2, 1.86, 8.51, 2.39, 8.7, 13, 4.44, 2.57, 3.19, 4.95, 0.591, 1.49, 1.5, 0.86, 1.81, 8.04, 3.38, 2.36, 10.6, 3.53, 7.75, 0.854};

}  // namespace windrow
