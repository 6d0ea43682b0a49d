// The few vector operations that kernels are written in, for the target that this translation unit is
// compiled for. Multiply-add is fused where the target has it in hardware and two roundings where it has not:
// one target, one rule.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// Sums stay in registers only where every loop over them is unrolled.
#define WINDROW_UNROLL _Pragma("GCC unroll 16")

namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kVectorRegisters = 32;
#else
constexpr int kVectorRegisters = 16;
#endif

// The compiler would rather load a value again for each use than keep it.
template <class V>
inline V in_register(V v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__x86_64__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
  return v;
}

template <class T>
struct Simd;

#if defined(__AVX512F__) && !defined(WINDROW_GENERIC)

template <>
struct Simd<float> {
  using V = __m512;
  static constexpr int kLanes = 16, kRows = 8, kVectors = 3;
  static V zero() { return _mm512_setzero_ps(); }
  static V all(float x) { return _mm512_set1_ps(x); }
  static V load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, V v) { _mm512_storeu_ps(p, v); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
};

template <>
struct Simd<double> {
  using V = __m512d;
  static constexpr int kLanes = 8, kRows = 8, kVectors = 3;
  static V zero() { return _mm512_setzero_pd(); }
  static V all(double x) { return _mm512_set1_pd(x); }
  static V load(const double* p) { return _mm512_loadu_pd(p); }
  static void store(double* p, V v) { _mm512_storeu_pd(p, v); }
  static V add(V a, V b) { return _mm512_add_pd(a, b); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_pd(a, b, c); }
};

#elif defined(__AVX2__) && !defined(WINDROW_GENERIC)

template <>
struct Simd<float> {
  using V = __m256;
  static constexpr int kLanes = 8, kRows = 6, kVectors = 2;
  static V zero() { return _mm256_setzero_ps(); }
  static V all(float x) { return _mm256_set1_ps(x); }
  static V load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, V v) { _mm256_storeu_ps(p, v); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
};

template <>
struct Simd<double> {
  using V = __m256d;
  static constexpr int kLanes = 4, kRows = 6, kVectors = 2;
  static V zero() { return _mm256_setzero_pd(); }
  static V all(double x) { return _mm256_set1_pd(x); }
  static V load(const double* p) { return _mm256_loadu_pd(p); }
  static void store(double* p, V v) { _mm256_storeu_pd(p, v); }
  static V add(V a, V b) { return _mm256_add_pd(a, b); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_pd(a, b, c); }
};

#elif defined(__aarch64__) && !defined(WINDROW_GENERIC)

template <>
struct Simd<float> {
  using V = float32x4_t;
  static constexpr int kLanes = 4, kRows = 8, kVectors = 3;
  static V zero() { return vdupq_n_f32(0); }
  static V all(float x) { return vdupq_n_f32(x); }
  static V load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, V v) { vst1q_f32(p, v); }
  static V add(V a, V b) { return vaddq_f32(a, b); }
  static V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
};

template <>
struct Simd<double> {
  using V = float64x2_t;
  static constexpr int kLanes = 2, kRows = 8, kVectors = 3;
  static V zero() { return vdupq_n_f64(0); }
  static V all(double x) { return vdupq_n_f64(x); }
  static V load(const double* p) { return vld1q_f64(p); }
  static void store(double* p, V v) { vst1q_f64(p, v); }
  static V add(V a, V b) { return vaddq_f64(a, b); }
  static V fma(V a, V b, V c) { return vfmaq_f64(c, a, b); }
};

#else  // the compilers' own vectors of 16 bytes, without a fused multiply-add

template <class T>
struct Simd {
  using V __attribute__((vector_size(16))) = T;
  static constexpr int kLanes = static_cast<int>(16 / sizeof(T)), kRows = 4, kVectors = 2;
  static V zero() { return V{}; }
  static V all(T x) { return V{} + x; }
  static V load(const T* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(T* p, V v) { __builtin_memcpy(p, &v, sizeof v); }
  static V add(V a, V b) { return a + b; }
  static V fma(V a, V b, V c) { return a * b + c; }
};

#endif

}  // namespace
