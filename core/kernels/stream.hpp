// Whole lines and runs of elements written past the caches.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "kernels/move.hpp"
#include "kernels/patch_contract.hpp"
#include "kernels/widest.hpp"

namespace {

// A register on its way past the caches; the target is aligned to it.
using Streamed __attribute__((vector_size(kWidest))) = long long;
inline void stream_register(char* target, Streamed v) {
#if defined(__AVX512BW__) && !defined(WINDROW_GENERIC)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(target), v);
#elif defined(__AVX2__) && !defined(WINDROW_GENERIC)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(target), v);
#elif defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(target), v);
#else
  __builtin_memcpy(target, &v, sizeof v);
#endif
}

void stream(char* target, const char* source, std::ptrdiff_t bytes) {
  for (std::ptrdiff_t i = 0; i < bytes; i += kWidest) {
    Streamed v;
    __builtin_memcpy(&v, source + i, sizeof v);
    stream_register(target + i, v);
  }
}

// Sums of one term: they begin with +0, so that -0 becomes +0.
template <class T>
void stream_sums(char* target, const char* source, std::ptrdiff_t bytes) {
  using V __attribute__((vector_size(kWidest))) = T;
  for (std::ptrdiff_t i = 0; i < bytes; i += kWidest) {
    V v;
    __builtin_memcpy(&v, source + i, sizeof v);
    v = V{} + v;
    stream_register(target + i, reinterpret_cast<Streamed>(v));
  }
}

void stream_end() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// Runs for which there is a loop of their own, and what they and their places must be multiples of.
constexpr bool has_short(std::ptrdiff_t bytes) {
  return bytes >= 12 && bytes <= 64 && (bytes % 8 == 0 || bytes == 12 || bytes == 20 || bytes == 28);
}
constexpr std::ptrdiff_t short_unit(std::ptrdiff_t bytes) {
  return bytes % 8 != 0 ? 4 : bytes % 16 != 0 ? 8 : 16;
}

#if defined(__AVX512BW__) && !defined(WINDROW_GENERIC)

// A register of a line that is put together from 4-byte units of several runs.
struct Part {
  static constexpr int kBytes = 64;
  __m512i units = _mm512_setzero_si512();

  // Units [kFrom, kUntil), of what begins at source.
  template <int kFrom, int kUntil>
  void put(const char* source) {
    constexpr auto kMask = static_cast<__mmask16>((1u << kUntil) - (1u << kFrom));
    units = _mm512_mask_loadu_epi32(units, kMask, source);
  }
  void stream(char* target) const { _mm512_stream_si512(reinterpret_cast<__m512i*>(target), units); }
};

// The line that is being put together stays in a register: no store is narrower than a line or crosses one.
class OpenLine {
 public:
  std::ptrdiff_t fill;
  char* target;

  OpenLine(const char* line, std::ptrdiff_t filled, char* to)
      : fill(filled), target(to), bytes_(_mm512_load_si512(line)) {}
  void add(const char* source, std::ptrdiff_t count) {
    const auto from = static_cast<__mmask64>(~0ull << fill);
    if (fill + count < 64) {
      const auto until = static_cast<__mmask64>((1ull << (fill + count)) - 1);
      bytes_ = _mm512_mask_loadu_epi8(bytes_, from & until, source - fill);
      fill += count;
      return;
    }
    bytes_ = _mm512_mask_loadu_epi8(bytes_, from, source - fill);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(target), bytes_);
    target += 64;
    std::ptrdiff_t i = 64 - fill;
    for (; i + 64 <= count; i += 64, target += 64)
      _mm512_stream_si512(reinterpret_cast<__m512i*>(target), _mm512_loadu_si512(source + i));
    fill = count - i;
    bytes_ = _mm512_maskz_loadu_epi8(static_cast<__mmask64>((1ull << fill) - 1), source + i);
  }
  void close(char* line) const { _mm512_store_si512(line, bytes_); }

 private:
  __m512i bytes_;
};

bool streams(std::ptrdiff_t bytes, std::ptrdiff_t) { return bytes >= 12; }

#else

#if defined(__AVX2__) && !defined(WINDROW_GENERIC)

// A register, half of a line, that is put together from 4-byte units of several runs.
struct Part {
  static constexpr int kBytes = 32;
  __m256 units = _mm256_setzero_ps();

  // Units [kFrom, kUntil), of what begins at source; all of it is read.
  template <int kFrom, int kUntil>
  void put(const char* source) {
    const __m256 value = _mm256_loadu_ps(reinterpret_cast<const float*>(source));
    units = _mm256_blend_ps(units, value, (1 << kUntil) - (1 << kFrom));
  }
  void stream(char* target) const { _mm256_stream_ps(reinterpret_cast<float*>(target), units); }
};

#endif

class OpenLine {
 public:
  std::ptrdiff_t fill;
  char* target;

  OpenLine(char* line, std::ptrdiff_t filled, char* to) : fill(filled), target(to), line_(line) {}
  void add(const char* source, std::ptrdiff_t count) {
    copy_wide<64>(line_ + fill, source);
    if (fill + count < 64) {
      fill += count;
      return;
    }
    stream(target, line_, 64);
    target += 64;
    std::ptrdiff_t i = 64 - fill;
    for (; i + 64 <= count; i += 64, target += 64) stream(target, source + i, 64);
    fill = count - i;
    copy_wide<64>(line_, source + i);
  }
  void close(char*) const {}

 private:
  char* line_;
};

bool streams(std::ptrdiff_t bytes, std::ptrdiff_t fill) {
#if defined(__AVX2__) && !defined(WINDROW_GENERIC)
  if (bytes <= 64) return has_short(bytes) && fill % short_unit(bytes) == 0;
#else
  (void)fill;
#endif
  return bytes > 64;
}

#endif

#if defined(__AVX2__) && !defined(WINDROW_GENERIC)

// Run `kRun` of the register that begins with byte `kFirst` of the group: into the units that it fills.
template <int kBytes, int kFirst, int kRun>
inline void put_run(Part& part, const char* const* sources) {
  constexpr int kAt = kRun * kBytes - kFirst;  // in the register
  if constexpr (kAt < Part::kBytes) {
    constexpr int kFrom = kAt > 0 ? kAt : 0,
                  kUntil = kAt + kBytes < Part::kBytes ? kAt + kBytes : Part::kBytes;
    part.template put<kFrom / 4, kUntil / 4>(sources[kRun] - kAt);
    put_run<kBytes, kFirst, kRun + 1>(part, sources);
  }
}

template <int kBytes, int kFirst, int kGroup>
inline void put_group(char* target, const char* const* sources) {
#if defined(WINDROW_JOINED)
  if constexpr (kBytes == 12 || kBytes == 24) {
    __m512i lines[kJoinedLines];
    join_lines<kBytes>(sources, lines);
    for (int i = 0; i < kJoinedLines; ++i)
      _mm512_stream_si512(reinterpret_cast<__m512i*>(target + 64 * i), lines[i]);
    return;
  }
#endif
  if constexpr (kFirst < kGroup) {
    Part part;
    put_run<kBytes, kFirst, kFirst / kBytes>(part, sources);
    part.stream(target + kFirst);
    put_group<kBytes, kFirst + Part::kBytes, kGroup>(target, sources);
  }
}

// How many runs are a group, which fills whole lines.
template <int kBytes>
constexpr int group_runs() {
  return 64 / (kBytes % 64 == 0 ? 64 : kBytes % 32 == 0 ? 32 : static_cast<int>(short_unit(kBytes)));
}

// Runs of a few 4-byte units, as many at a time as fill whole lines, which begin with byte kPhase of a run:
// the masks are constants.
template <int kBytes, int kPhase>
std::ptrdiff_t stream_short(const windrow::GatherRuns& g, char* line, std::ptrdiff_t fill) {
  constexpr int kRuns = group_runs<kBytes>();
  OpenLine open(line, fill, g.target);
  const std::ptrdiff_t* offset = g.offsets;
  const std::ptrdiff_t* const last = g.offsets + g.count;
  const std::ptrdiff_t* step = g.steps;
  const auto next = [&] {
    const char* run = g.source + *step + *offset;
    if (++offset == last) {
      offset = g.offsets;
      ++step;
    }
    return run;
  };
  std::ptrdiff_t runs = g.repeats * g.count;
  const auto in_phase = [&] { return (open.fill + kPhase) % 64 == 0; };
  for (int i = 0; i < kRuns && runs > 0 && !in_phase(); ++i, --runs) open.add(next(), kBytes);
  if (in_phase() && runs > kRuns) {
    // With a phase, the group's first run is begun and the one after its last is not ended.
    const char* sources[kRuns + 1];
    if constexpr (kPhase > 0) {
      sources[0] = next();
      --runs;
      open.add(sources[0], kPhase);
    }
    constexpr int kNew = kPhase > 0 ? 1 : 0;
    for (; runs >= kRuns; runs -= kRuns, open.target += kRuns * kBytes) {
      if (last - offset > kRuns) {
        for (int i = 0; i < kRuns; ++i) sources[kNew + i] = g.source + *step + offset[i];
        offset += kRuns;
      } else {
        for (int i = 0; i < kRuns; ++i) sources[kNew + i] = next();
      }
      put_group<kBytes, kPhase, kPhase + kRuns * kBytes>(open.target - kPhase, sources);
      if constexpr (kPhase > 0) sources[0] = sources[kRuns];
    }
    if constexpr (kPhase > 0) open.add(sources[0] + kPhase, kBytes - kPhase);
  }
  for (; runs > 0; --runs) open.add(next(), kBytes);
  open.close(line);
  return open.fill;
}

template <int kBytes>
bool stream_groups_apart(const windrow::GatherRuns& g, std::ptrdiff_t apart) {
  constexpr int kRuns = group_runs<kBytes>();
  for (std::ptrdiff_t r = 0; r < g.repeats; ++r) {
    char* target = g.target + r * apart;
    const char* const source = g.source + g.steps[r];
    for (std::ptrdiff_t j = 0; j < g.count; j += kRuns, target += kRuns * kBytes) {
      const char* sources[kRuns];
      for (int i = 0; i < kRuns; ++i) sources[i] = source + g.offsets[j + i];
      put_group<kBytes, 0, kRuns * kBytes>(target, sources);
    }
  }
  return true;
}

#endif

bool stream_apart(const windrow::GatherRuns& g, std::ptrdiff_t apart) {
#if defined(__AVX2__) && !defined(WINDROW_GENERIC)
  switch (g.bytes) {
    case 12:
      return stream_groups_apart<12>(g, apart);
    case 20:
      return stream_groups_apart<20>(g, apart);
    case 24:
      return stream_groups_apart<24>(g, apart);
    case 28:
      return stream_groups_apart<28>(g, apart);
    case 40:
      return stream_groups_apart<40>(g, apart);
    case 56:
      return stream_groups_apart<56>(g, apart);
    default:
      break;
  }
#endif
  (void)g, (void)apart;
  return false;
}

std::ptrdiff_t stream_runs(const windrow::GatherRuns& g, char* line, std::ptrdiff_t fill) {
#if defined(__AVX2__) && !defined(WINDROW_GENERIC)
  switch (g.bytes) {
    case 12:
      return stream_short<12, 0>(g, line, fill);
    case 16:
      return stream_short<16, 0>(g, line, fill);
    case 20:
      return stream_short<20, 0>(g, line, fill);
    case 24:
      return stream_short<24, 0>(g, line, fill);
    case 28:
      return stream_short<28, 0>(g, line, fill);
    case 32:
      return fill % 32 == 16 ? stream_short<32, 16>(g, line, fill) : stream_short<32, 0>(g, line, fill);
    case 40:
      return stream_short<40, 0>(g, line, fill);
    case 48:
      return stream_short<48, 0>(g, line, fill);
    case 56:
      return stream_short<56, 0>(g, line, fill);
    case 64:
      switch (fill) {
        case 16:
          return stream_short<64, 48>(g, line, fill);
        case 32:
          return stream_short<64, 32>(g, line, fill);
        case 48:
          return stream_short<64, 16>(g, line, fill);
        default:
          return stream_short<64, 0>(g, line, fill);
      }
    default:
      break;
  }
#endif
  OpenLine open(line, fill, g.target);
  for (std::ptrdiff_t r = 0; r < g.repeats; ++r)
    for (std::ptrdiff_t j = 0; j < g.count; ++j) open.add(g.source + g.steps[r] + g.offsets[j], g.bytes);
  open.close(line);
  return open.fill;
}

}  // namespace
