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
constexpr Nanoseconds kVectors16Float32{0.333, 0.421, 0.372, 0.403, 0.373, 0.271, 14.4, 5.16, 6.66, 15.1, 0.585, 12, 1.76, 5.07, 22.1, 0, 0, 5.83, 4.15, 4.7, 4.74, 0.214, 4.36, 2.65, 5.71, 6.66, 1.56, 1.9, 0};
// portable, float64: AMD EPYC (AuthenticAMD 25 1 1), 2026-11-25.
constexpr Nanoseconds kVectors16Float64{0.374, 0.446, 0.41, 0.493, 0.392, 0.371, 2.14, 2.09, 3.16, 12.8, 0.981, 15.1, 1.14, 4.54, 12.3, 0.279, 1.85, 3.84, 2.32, 3.84, 3.76, 1.29, 4.97, 0, 7.13, 8.01, 1.08, 2.24, 0};
// x86_v3, float32: AMD EPYC (AuthenticAMD 25 1 1), 2026-11-25.
constexpr Nanoseconds kVectors32Float32{0.153, 0.222, 0.188, 0.217, 0.17, 0.285, 17.9, 1.62, 7.45, 9.12, 0.581, 12.6, 2.59, 7.36, 9.59, 2.92, 1.61, 2.91, 2.59, 2.39, 2.83, 0.952, 7.92, 2.97, 2.3, 4.3, 2.42, 7.15, 1.19};
// x86_v3, float64: AMD EPYC (AuthenticAMD 25 1 1), 2026-11-25.
constexpr Nanoseconds kVectors32Float64{0.164, 0.223, 0.223, 0.26, 0.18, 0.282, 15.4, 1.33, 4.3, 8.28, 0.979, 11.9, 2.17, 4.71, 7.34, 2.1, 1.43, 2.74, 2.44, 2.63, 3.48, 1.35, 5.61, 2.83, 2.28, 4.78, 1.48, 5.39, 0.687};
// x86_v4, float32: not measured in this form. Multiplying, gathering, tables and filling as on a Zen 4 core once; the rest
// 1.5 times that of x86_v3.
constexpr Nanoseconds kVectors64Float32{0.27, 0.27, 0.27, 0.345, 0.255, 0.351, 27.6, 1.08, 11.2, 13.7, 0.871, 5.4, 0.54, 11.4, 1.62, 4.35, 2.4, 4.35, 3.88, 3.6, 4.25, 1.36, 11.7, 4.46, 3.41, 6.45, 3.63, 10.7, 1.77};
// x86_v4, float64: not measured in this form. Multiplying, gathering, tables and filling as on a Zen 4 core once; the rest
// 1.5 times that of x86_v3.
constexpr Nanoseconds kVectors64Float64{0.27, 0.27, 0.27, 0.414, 0.27, 0.351, 23.1, 1.08, 6.46, 12.4, 1.47, 5.4, 0.54, 7, 1.62, 3.15, 2.15, 4.11, 3.66, 3.96, 5.24, 2.03, 8.38, 4.25, 3.42, 7.17, 2.22, 8.08, 1.03};

}  // namespace windrow
