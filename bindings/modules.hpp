// The parts that the extension module is put together from.
#pragma once

#include <nanobind/nanobind.h>

namespace windrow::python {

void bind_conv(nanobind::module_& m);
void bind_prepared(nanobind::module_& m);
void bind_patches(nanobind::module_& m);
void bind_pool(nanobind::module_& m);
void bind_testing(nanobind::module_& m);
void bind_kernels(nanobind::module_& m);      // of bind_testing
void bind_row_kernels(nanobind::module_& m);  // of bind_testing

}  // namespace windrow::python
