// Nanoseconds for one of each kind of work, in the order of plan/costs.hpp, for each target and dtype.
// `python -m benchmarks calibrate --write core/plan/costs_table.hpp` replaces rows, and says above each where
// it was measured.
// clang-format off
#pragma once

#include <array>

#include "plan/costs.hpp"

namespace windrow {

using Nanoseconds = std::array<double, kWorks>;

// portable, float32: AMD EPYC (AuthenticAMD 25 1 1), 2026-11-25.
constexpr Nanoseconds kPortableFloat32{0.364, 0.398, 0.328, 0.361, 0.41, 0.12, 0.18, 9.64, 4.54, 7.03, 5.9, 13.9, 0.653, 12.5, 1.83, 5.44, 21.9, 5.72, 4.53, 4.47, 2.54, 2.85, 3.6, 0, 1.09, 0.983, 4.61, 3.09, 5.19, 6.7, 1.13, 1.61, 0};
// portable, float64: AMD EPYC (AuthenticAMD 25 1 1), 2026-11-25.
constexpr Nanoseconds kPortableFloat64{0.401, 0.427, 0.375, 0.45, 0.422, 0.151, 0.317, 1.22, 2.74, 4.24, 3.48, 12.5, 0.921, 14.2, 1.3, 4.5, 11.6, 4.42, 5.5, 1.67, 0.407, 0.667, 1.17, 0.499, 3.72, 1.65, 5.93, 0, 6.68, 8.04, 0.821, 1.97, 0};
// x86_v3, float32: AMD EPYC (AuthenticAMD 25 1 1), 2026-11-25.
constexpr Nanoseconds kX86V3Float32{0.159, 0.197, 0.165, 0.188, 0.169, 0.18, 0.256, 11, 1.27, 1.67, 7.15, 7.7, 0.624, 12.6, 1.93, 7.21, 9.6, 3.25, 2.63, 2.57, 3.59, 1.02, 1.68, 0.676, 3.58, 1.35, 7.2, 2.86, 1.85, 4.3, 1.79, 5.24, 1.26};
// x86_v3, float64: AMD EPYC (AuthenticAMD 25 1 1), 2026-11-25.
constexpr Nanoseconds kX86V3Float64{0.166, 0.2, 0.186, 0.22, 0.162, 0.123, 0.257, 13.2, 1.16, 1.75, 3.91, 8, 0.979, 11.1, 1.82, 4.33, 8.6, 2.02, 1.79, 2.18, 4.2, 0.451, 1.12, 0.943, 6.12, 1.49, 5.56, 2.54, 0.00567, 4.1, 1.23, 4.62, 1.43};
// x86_v4, float32: Intel(R) Xeon(R) Processor (GenuineIntel 6 207 2), 2026-11-30.
constexpr Nanoseconds kX86V4Float32{0.184, 0.197, 0.2, 0.218, 0.177, 0.209, 0.263, 26.3, 1.32, 1.2, 5.96, 4.69, 1.24, 8.7, 2.07, 11.6, 17.4, 3.38, 0.625, 3.72, 2.21, 1.05, 0, 0.807, 0, 1.24, 7.56, 3.26, 3.29, 8.13, 5.34, 5.06, 0};
// x86_v4, float64: Intel(R) Xeon(R) Processor (GenuineIntel 6 207 2), 2026-11-30.
constexpr Nanoseconds kX86V4Float64{0.184, 0.208, 0.219, 0.236, 0.186, 0.134, 0.256, 42.2, 1.46, 1.57, 4.52, 2.88, 1.29, 8.03, 2.4, 7.26, 16.4, 3.44, 1.2, 2.47, 0.651, 0.128, 0, 0.986, 0, 1.5, 5.74, 2.92, 2.1, 9.25, 3.05, 5.41, 0};
// zen4, float32: AMD EPYC (AuthenticAMD 25 17 1), 2026-11-30.
constexpr Nanoseconds kZen4Float32{0.264, 0.275, 0.274, 0.281, 0.263, 0, 0.268, 20, 1.2, 1.45, 5.5, 2.39, 0.367, 7.97, 1.04, 9.33, 13.2, 1.5, 0.5, 4.16, 3.66, 0.551, 0.597, 1.1, 0, 1.24, 8.41, 1.52, 0.571, 4.19, 1.72, 4.53, 2};
// zen4, float64: AMD EPYC (AuthenticAMD 25 17 1), 2026-11-30.
constexpr Nanoseconds kZen4Float64{0.272, 0.287, 0.29, 0.284, 0.274, 0, 0.29, 35.1, 1.26, 1.54, 3.69, 0.96, 0.438, 7.63, 1.56, 4.97, 12.5, 1.5, 1.5, 3.24, 1.6, 0.591, 0.214, 0.478, 1.57, 0.973, 6.6, 2.63, 0, 5.16, 0.875, 6.3, 0.987};

}  // namespace windrow
