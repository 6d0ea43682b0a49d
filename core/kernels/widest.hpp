// The width of the target's registers. Vectors of the compilers' extensions that are wider are put together
// on the stack, so that whoever wants more takes several.
#pragma once

namespace {

#if defined(__AVX512F__) && !defined(WINDROW_GENERIC)
constexpr int kWidest = 64;  // bytes
#elif defined(__AVX2__) && !defined(WINDROW_GENERIC)
constexpr int kWidest = 32;
#else
constexpr int kWidest = 16;
#endif

}  // namespace
