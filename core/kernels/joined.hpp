// Runs of three numbers, as those of windows of 3 x 3 are, put together to whole cache lines in registers.
#pragma once

#if defined(__AVX512F__) && !defined(WINDROW_GENERIC)
#include <immintrin.h>

#include <type_traits>

#define WINDROW_JOINED

namespace {

// So many runs fill so many lines.
template <int kBytes>
constexpr int joined_runs = 192 / kBytes;
constexpr int kJoinedLines = 3;

// A register of runs with a number after each that is not theirs; narrow loads cross few lines.
inline __m512i join_runs(const char* const* sources, std::integral_constant<int, 12>) {
  const auto piece = [](const char* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
  __m512i v = _mm512_castsi128_si512(piece(sources[0]));
  v = _mm512_inserti32x4(v, piece(sources[1]), 1);
  v = _mm512_inserti32x4(v, piece(sources[2]), 2);
  return _mm512_inserti32x4(v, piece(sources[3]), 3);
}
inline __m512i join_runs(const char* const* sources, std::integral_constant<int, 24>) {
  const auto piece = [](const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); };
  return _mm512_inserti64x4(_mm512_castsi256_si512(piece(sources[0])), piece(sources[1]), 1);
}

// The lines of joined_runs<kBytes> runs. Up to 8 bytes after each run are read.
template <int kBytes>
inline void join_lines(const char* const* sources, __m512i* lines) {
  constexpr int kRuns = joined_runs<kBytes> / 4;
  const std::integral_constant<int, kBytes> length;
  const __m512i a = join_runs(sources, length), b = join_runs(sources + kRuns, length);
  const __m512i c = join_runs(sources + 2 * kRuns, length), d = join_runs(sources + 3 * kRuns, length);
  if constexpr (kBytes == 12) {
    const auto take = [](__m512i v, __m512i places, __m512i w) {
      return _mm512_permutex2var_epi32(v, places, w);
    };
    lines[0] = take(a, _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20), b);
    lines[1] = take(b, _mm512_setr_epi32(5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25), c);
    lines[2] = take(c, _mm512_setr_epi32(10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25, 26, 28, 29, 30), d);
  } else {
    const auto take = [](__m512i v, __m512i places, __m512i w) {
      return _mm512_permutex2var_epi64(v, places, w);
    };
    lines[0] = take(a, _mm512_setr_epi64(0, 1, 2, 4, 5, 6, 8, 9), b);
    lines[1] = take(b, _mm512_setr_epi64(2, 4, 5, 6, 8, 9, 10, 12), c);
    lines[2] = take(c, _mm512_setr_epi64(5, 6, 8, 9, 10, 12, 13, 14), d);
  }
}

}  // namespace

#endif
