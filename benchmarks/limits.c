/* The hardware's limits, measured in the run they are compared with: the FMA peak of a core, the rate of
 * filling a buffer and the rate of reading one. Compiled by limits.py with the machine's C compiler (GCC or
 * Clang, -ffp-contract=fast); it shares no code with what it judges.
 *
 * Every function does whole repetitions until `seconds` have passed and returns a rate per second. The clock
 * is the thread's own CPU time: a limit is the hardware's, however busy others keep the core.
 */
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static clockid_t clock_used = CLOCK_MONOTONIC;

/* own: the thread's CPU time, which is right for one thread; several must share the memory at the same time.
 */
void set_clock(int own) { clock_used = own ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC; }

static double now(void) {
  struct timespec t;
  clock_gettime(clock_used, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Independent chains of fused multiply-adds, enough to hide the latency (4 cycles, two a cycle). The values
 * tend to a fixed point near 1, so none is denormal, infinite or zero. */
#define FMA_PEAK(NAME, TARGET, TYPE, BYTES, CHAINS)                                                \
  TARGET static double NAME(double seconds) {                                                      \
    typedef TYPE vec __attribute__((vector_size(BYTES)));                                          \
    enum { LANES = BYTES / sizeof(TYPE), INNER = 2000 };                                           \
    vec acc[CHAINS], scale, shift;                                                                 \
    for (int l = 0; l < LANES; ++l) {                                                              \
      scale[l] = (TYPE)0.5 + (TYPE)l / 256;                                                        \
      shift[l] = (TYPE)0.5 - (TYPE)l / 512;                                                        \
    }                                                                                              \
    for (int i = 0; i < CHAINS; ++i) acc[i] = scale + (TYPE)i;                                     \
    const double start = now();                                                                    \
    double flops = 0, spent;                                                                       \
    do {                                                                                           \
      for (int r = 0; r < INNER; ++r) {                                                            \
        _Pragma("GCC unroll 32") for (int i = 0; i < CHAINS; ++i) acc[i] = acc[i] * scale + shift; \
      }                                                                                            \
      flops += 2.0 * INNER * CHAINS * LANES;                                                       \
      spent = now() - start;                                                                       \
    } while (spent < seconds);                                                                     \
    for (int i = 1; i < CHAINS; ++i) acc[0] += acc[i];                                             \
    volatile TYPE keep = acc[0][0];                                                                \
    (void)keep;                                                                                    \
    return flops / spent;                                                                          \
  }

/* 64-byte vectors of unaligned access: the compiler splits them where the target's are narrower. The fill
 * value is no byte pattern, so no compiler makes a memset of it. Both take the best of what the target has.
 */
typedef double line __attribute__((vector_size(64), aligned(8), may_alias));

/* Small buffers many times between two looks at the clock, which cost a system call. */
#define REPEATS(bytes) ((bytes) < (1 << 18) ? (1 << 18) / ((bytes) + 1) + 1 : 1)

#define RATE(NAME, TARGET, BODY, TAIL)                                    \
  TARGET static double NAME(double* data, size_t bytes, double seconds) { \
    const size_t lines = bytes / sizeof(line), repeats = REPEATS(bytes);  \
    const double start = now();                                           \
    double moved = 0, spent;                                              \
    line a = {0}, b = {0}, c = {0}, d = {0};                              \
    const line value = {1.25, -2.5, 1.25, -2.5, 1.25, -2.5, 1.25, -2.5};  \
    (void)value;                                                          \
    do {                                                                  \
      for (size_t r = 0; r < repeats; ++r) {                              \
        line* p = (line*)data;                                            \
        size_t i = 0;                                                     \
        for (; i + 4 <= lines; i += 4) {                                  \
          BODY                                                            \
        }                                                                 \
        for (; i < lines; ++i) {                                          \
          TAIL                                                            \
        }                                                                 \
        __asm__ volatile("" : : "r"(data) : "memory");                    \
      }                                                                   \
      moved += (double)(repeats * lines * sizeof(line));                  \
      spent = now() - start;                                              \
    } while (spent < seconds);                                            \
    a += b + c + d;                                                       \
    volatile double keep = a[0];                                          \
    (void)keep;                                                           \
    return moved / spent;                                                 \
  }
#define FILL_BODY p[i] = value, p[i + 1] = value, p[i + 2] = value, p[i + 3] = value;
#define FILL_TAIL p[i] = value;
#define READ_BODY a += p[i], b += p[i + 1], c += p[i + 2], d += p[i + 3];
#define READ_TAIL a += p[i];

#define FAMILY(SUFFIX, TARGET, BYTES, CHAINS)               \
  FMA_PEAK(fma_f32_##SUFFIX, TARGET, float, BYTES, CHAINS)  \
  FMA_PEAK(fma_f64_##SUFFIX, TARGET, double, BYTES, CHAINS) \
  RATE(fill_##SUFFIX, TARGET, FILL_BODY, FILL_TAIL)         \
  RATE(read_##SUFFIX, TARGET, READ_BODY, READ_TAIL)

FAMILY(base, , 16, 12)
#if defined(__x86_64__)
#define V3 __attribute__((target("avx2,fma")))
#define V4 __attribute__((target("avx512f")))
FAMILY(v3, V3, 32, 12)
FAMILY(v4, V4, 64, 24)

/* Non-temporal stores: 32-byte ones need an aligned address, so the first and last bytes are left alone. */
V3 static double stream_v3(double* data, size_t bytes, double seconds) {
  char *first = (char*)(((uintptr_t)data + 31) & ~(uintptr_t)31), *last = (char*)data + bytes;
  const size_t whole = last > first ? (size_t)(last - first) / 32 : 0;
  const __m256d value = _mm256_set_pd(1.25, -2.5, 1.25, -2.5);
  const double start = now();
  double moved = 0, spent;
  const size_t repeats = REPEATS(bytes);
  do {
    for (size_t r = 0; r < repeats; ++r) {
      for (size_t i = 0; i < whole; ++i) _mm256_stream_pd((double*)(first + 32 * i), value);
    }
    _mm_sfence();
    moved += (double)(repeats * whole * 32);
    spent = now() - start;
  } while (spent < seconds);
  return moved / spent;
}
#define PICK(NAME)                                                               \
  (__builtin_cpu_supports("avx512f")                                 ? NAME##_v4 \
   : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? NAME##_v3 \
                                                                     : NAME##_base)
#else
#define PICK(NAME) NAME##_base
#endif

double fma_peak_f32(double seconds) { return PICK(fma_f32)(seconds); }
double fma_peak_f64(double seconds) { return PICK(fma_f64)(seconds); }
double read_rate(double* data, size_t bytes, double seconds) { return PICK(read)(data, bytes, seconds); }
double fill_rate(double* data, size_t bytes, double seconds) { return PICK(fill)(data, bytes, seconds); }
/* 0 where the target has none: fill_rate stands alone then. */
double stream_rate(double* data, size_t bytes, double seconds) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return stream_v3(data, bytes, seconds);
#endif
  (void)data, (void)bytes, (void)seconds;
  return 0;
}
