// Convolution and its gradients: the whole core on one screen. The caller has checked every shape.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "base/checked.hpp"
#include "base/parallel.hpp"
#include "base/types.hpp"
#include "dispatch/targets.hpp"
#include "plan/costs.hpp"

namespace windrow {

// Thrown, before any work, where a call cannot do with the workspace that it may use.
struct WorkspaceTooSmall {
  Index needed;  // bytes, on one thread
};

// kAuto: by the shapes of one image. kWinograd: wherever there is such a form. Those after it are single
// candidates, for calibration and tests; where a product has none such, the direct sum chooses.
enum class Algorithm {
  kAuto,
  kDirect,
  kWinograd,
  kWindowProduct,
  kFilterProduct,
  kStripProduct,
  kWinograd2,
  kWinograd4,
  // The WeightWays of the weight gradient, in their order.
  kWeightRuns,
  kWeightSideBySide,
  kWeightFilters,
  kWeightCopied,
  kWeightInPlace,
};
// Whether a single driver of the direct sum is asked for, also where another form of it goes first otherwise:
// lanes along the channels, all phases of an input gradient at once.
inline bool asks_for_driver(Algorithm algorithm) {
  return algorithm >= Algorithm::kWindowProduct && algorithm <= Algorithm::kStripProduct;
}

// Whether a small weight gradient may go its own way: neither tiles nor lanes are asked for.
inline bool may_be_small_gradient(Algorithm algorithm) {
  return algorithm < Algorithm::kWeightRuns && algorithm != Algorithm::kWinograd &&
         algorithm != Algorithm::kWinograd4;
}

class KeptWeights;

struct CallOptions {
  Index max_workspace = 0;  // bytes, all threads together; 0: as much as the promise of bounded memory allows
  bool accumulate = false;  // gradients: add to the result
  Limits limits = {};       // forward
  Algorithm algorithm = Algorithm::kAuto;
  bool prepared = false;        // forward: what is done with weights alone has been done
  KeptWeights* kept = nullptr;  // and lies here
};

struct ConvShape {
  Index n = 0, c = 0, k = 0, groups = 1;
  std::vector<WindowAxis> axes;
  double fill = 0;  // what a constant border of x holds

  bool holds() const {
    return groups > 0 && c % groups == 0 && k % groups == 0 && holds_positions(axes) &&
           holds_product({n, c}, axes, {&WindowAxis::size}) &&
           holds_product({k, c / groups}, axes, {&WindowAxis::kernel}) &&
           holds_product({n, k}, axes, {&WindowAxis::out});
  }
  bool has_zeros_around() const {
    return fill == 0 && std::all_of(axes.begin(), axes.end(),
                                    [](const WindowAxis& axis) { return axis.border == Border::kConstant; });
  }
};

// An array of (images, channels, spatial...) or (rows, channels, taps...). Strides are in elements, any sign.
template <class T>
struct ArrayView {
  T* data = nullptr;
  const Index* strides = nullptr;
};

template <class T>
struct BiasView {
  T* data = nullptr;  // null: no bias
  Index stride = 1;
};

template <class T>
void conv(const ConvShape& shape, ArrayView<const T> x, ArrayView<const T> w, BiasView<const T> b,
          ArrayView<T> y, const CallOptions& options, const Target& target, const RunContext& context);

// The bias, one value per channel of dx and added last, is that of a transposed convolution, whose result dx
// then is. Borders are zeros.
template <class T>
void conv_grad_input(const ConvShape& shape, ArrayView<const T> dy, ArrayView<const T> w, BiasView<const T> b,
                     ArrayView<T> dx, const CallOptions& options, const Target& target,
                     const RunContext& context);

template <class T>
void conv_grad_weight(const ConvShape& shape, ArrayView<const T> dy, ArrayView<const T> x, ArrayView<T> dw,
                      const CallOptions& options, const Target& target, const RunContext& context);

template <class T>
void conv_grad_bias(const ConvShape& shape, ArrayView<const T> dy, BiasView<T> db, const CallOptions& options,
                    const RunContext& context);

// One way of computing a product over windows, by its driver's name, and the work that it has to do.
struct Candidate {
  const char* name;
  Counts counts;
};

// What a pass would do, for explain.
struct PassPlan {
  const char* algorithm;
  const char* kernel;          // the driver that runs it
  Index rows, vectors, lanes;  // tile
  Index block_k, block_pixels, block_rows;
  Index pieces;
  Index scratch_bytes;  // of one thread
  Index shared_bytes;   // of the whole call
  int threads;          // that the workspace has room for, of those asked for
  Index roundings;      // the result is right within roundings * eps * the same sum of magnitudes
  std::vector<Candidate> candidates;  // for one image, where a pass is a single product
  const char* in_lanes = "";          // weight gradients: what lies in them, and whether x is read in place
};
enum class Pass { kForward, kGradInput, kGradWeight };
// For arrays in C order, or channels-last ones.
template <class T>
PassPlan plan_pass(const ConvShape& shape, Pass pass, bool channels_last, const CallOptions& options,
                   const Target& target, int threads);

}  // namespace windrow
