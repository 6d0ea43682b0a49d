// The kernels of unfold and fold for one target, compiled as target.cpp is.
#include "kernels/add_runs.hpp"
#include "kernels/fold_rows.hpp"
#include "kernels/fold_windows.hpp"
#include "kernels/move.hpp"
#include "kernels/patch_contract.hpp"
#include "kernels/stream.hpp"
#include "kernels/sum_rows.hpp"
#include "kernels/tap_rows.hpp"

namespace {

using I8 = std::int8_t;
using I16 = std::int16_t;
using I32 = std::int32_t;
using I64 = std::int64_t;
using U8 = std::uint8_t;
using U16 = std::uint16_t;
using U32 = std::uint32_t;
using U64 = std::uint64_t;

template <class T, class Op>
constexpr auto same = sum_rows<T, T, Op>;
template <class Op>
constexpr auto half = sum_rows<float, Half, Op>;

constexpr windrow::PatchKernels kKernels = {
    .move = move,
    .unzip = unzip,
    .zip = zip,
    .tap_rows = tap_rows,
    .gather_runs = gather_runs,
    .stream_runs = stream_runs,
    .stream_apart = stream_apart,
    .streams = streams,
    .stream = stream,
    .stream_sums = {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                    stream_sums<float>, stream_sums<double>},
    .stream_end = stream_end,
    .add_runs = {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                 add_runs<float>, add_runs<double>},
    .turned_bytes = turned_bytes,
    .fold_rows = {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                  fold_rows<float>, fold_rows<double>},
    .fold_windows = {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                     fold_windows<float>, fold_windows<double>},
    .sum_rows =
        {
            // Sums of signed integers are those of unsigned ones, which may wrap.
            {same<U8, Add>, same<U16, Add>, same<U32, Add>, same<U64, Add>, same<U8, Add>, same<U16, Add>,
             same<U32, Add>, same<U64, Add>, half<Add>, same<float, Add>, same<double, Add>},
            {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, half<Weighted>,
             same<float, Weighted>, same<double, Weighted>},
            {same<I8, Max>, same<I16, Max>, same<I32, Max>, same<I64, Max>, same<U8, Max>, same<U16, Max>,
             same<U32, Max>, same<U64, Max>, half<Max>, same<float, Max>, same<double, Max>},
            {same<I8, Min>, same<I16, Min>, same<I32, Min>, same<I64, Min>, same<U8, Min>, same<U16, Min>,
             same<U32, Min>, same<U64, Min>, half<Min>, same<float, Min>, same<double, Min>},
        },
};

}  // namespace

namespace windrow::WINDROW_TARGET {
extern const PatchKernels patches;
const PatchKernels patches = kKernels;
}  // namespace windrow::WINDROW_TARGET
