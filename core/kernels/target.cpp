// All kernels of one target. Compiled once per target, with its flags and WINDROW_TARGET set to its name;
// everything but the two tables has internal linkage (tests/test_kernel_objects.py runs nm to see that it
// stays so).
#include "kernels/channel_window.hpp"
#include "kernels/channels.hpp"
#include "kernels/contract.hpp"
#include "kernels/correlate.hpp"
#include "kernels/gather.hpp"
#include "kernels/interleave.hpp"
#include "kernels/limit.hpp"
#include "kernels/pad.hpp"
#include "kernels/pool.hpp"
#include "kernels/pool_spread.hpp"
#include "kernels/product.hpp"
#include "kernels/runs.hpp"
#include "kernels/stencil.hpp"
#include "kernels/strided.hpp"
#include "kernels/transpose.hpp"
#include "kernels/window.hpp"
#include "kernels/winograd.hpp"
#include "kernels/winograd_gradient.hpp"

namespace {

template <class T>
constexpr windrow::KernelTable<T> kTable = {
    .lanes = Simd<T>::kLanes,
    .rows = Simd<T>::kRows,
    .vectors = Simd<T>::kVectors,
    .product = product<T>,
    .gather = gather<T>,
    .stencil = stencil<T>,
    .window = window<T>,
    .channels = channels<T>,
    .channel_window = channel_window<T>,
    .correlate = correlate<T>,
    .add_lanes = add_lanes<T>,
    .add_vectors = add_vectors<T>,
    .correlate_channels = correlate_channels<T>,
    .pad = pad<T>,
    .runs = runs<T>,
    .spread = spread<T>,
    .collect = collect<T>,
    .limit = limit<T>,
    .interleave = interleave<T>,
    .transpose = transpose<T>,
    .pool_lanes = PoolVectors<T>::kLanes,
    .pool_max = pool_max<T>,
    .pool_sum = pool_sum<T>,
    .pool_spread = pool_spread<T>,
    .winograd_input = winograd_input<T>,
    .winograd_output = winograd_output<T>,
    .winograd_weights = winograd_weights<T>,
    .winograd_pixels = winograd_pixels<T>,
    .winograd_results = winograd_results<T>,
    .winograd_taps = winograd_taps<T>,
    .fma_rounds = fma_rounds<T>,
};

}  // namespace

namespace windrow::WINDROW_TARGET {
extern const KernelTable<float> float32;
extern const KernelTable<double> float64;
const KernelTable<float> float32 = kTable<float>;
const KernelTable<double> float64 = kTable<double>;
}  // namespace windrow::WINDROW_TARGET
