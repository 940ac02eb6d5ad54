// out[m, n] = a @ b, with a in lanes (suite/formats/n_of_m.py), b column-major and out row-major.
//
// Compiled for its N, M and NUMBER (32: float, 16: bfloat16). A lane is a row: each register of values
// meets numbers that a permutation picks from the window of b, so there is neither a gather nor a sum
// across lanes. Where bfloat16 has an instruction of its own, which adds two products to each sum, two
// values of a row stand together.

#include <algorithm>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "constants.h"
#include "n_of_m.h"
#include "vectors.h"

namespace {

constexpr int ACROSS = WIDE < 8 ? 8 : WIDE;  // sums of a vector: a register, or two short ones
#if defined(__AVX512F__)
constexpr int COLUMNS = 8;  // of b at a time: twice as many sums, and a window of each, fill 32 registers
#else
constexpr int COLUMNS = 4;
#endif
#if defined(__AVX2__)
constexpr int UNROLLED = 32;
#else
constexpr int UNROLLED = 1;  // without permutations the code would be long, and no faster
#endif

#if NUMBER == 16 && defined(__AVX512BF16__) && defined(__AVX512BW__)
#define PAIRS
constexpr int TOGETHER = 2;
constexpr int CHAINS = 16;  // sums in flight: two instructions a cycle, each six cycles long
#else
constexpr int TOGETHER = 1;
constexpr int CHAINS = 8;  // two a cycle, each four cycles long
#endif

constexpr int BOTH = 2;  // registers of a band, which share the windows of b
constexpr int LANES = BOTH * ACROSS;
constexpr int NUMBERS = ACROSS * TOGETHER;  // of a register of values
constexpr int AHEAD = 4096;               // bytes: further than the processor's own prefetching sees

constexpr int WORD = 32 / TOGETHER;
constexpr int WINDOW = M <= NUMBERS ? NUMBERS : 1 << log2_up(M), GROUPS = WINDOW / M;
constexpr Cut CUT(M, WORD, (GROUPS * N + TOGETHER - 1) / TOGETHER);
constexpr int BITS = CUT.bits, FIELDS = CUT.fields, WINDOWS = CUT.windows, WORDS = CUT.words;
constexpr int ROUNDS = CUT.rounds / WINDOWS;  // of a window

using Floats = Vector<ACROSS>;
using Wholes = Width<ACROSS>::Bits;

#if NUMBER == 16
using Number = bfloat16;
#else
using Number = float;
#endif

#ifdef PAIRS

using Packed = bfloat16;  // what b is packed as
using Word = std::uint16_t;
typedef Word Words __attribute__((vector_size(ACROSS * 4)));
using Values = Words;

inline Values values_at(const bfloat16* from) { return load<Values>(from); }
inline Packed packed(bfloat16 value) { return value; }

inline void add(Values value, const bfloat16* window, Words at, Floats& sum) {
  const __m512i picked = _mm512_permutexvar_epi16((__m512i)at, load<__m512i>(window));
  sum = _mm512_dpbf16_ps(sum, (__m512bh)value, (__m512bh)picked);
}

#else

using Packed = float;
using Word = std::uint32_t;
using Words = Wholes;
using Values = Floats;

inline Values values_at(const Number* from) { return load<ACROSS>(from); }
inline Packed packed(Number value) { return widen(value); }

// window[at], lane by lane.
template <int WIDTH>
inline Floats pick(const float* window, Words at) {
#if defined(__AVX512F__)
  if constexpr (WIDTH == 16)
    return _mm512_permutexvar_ps((__m512i)at, load<ACROSS>(window));
  else
    return _mm512_permutex2var_ps(load<ACROSS>(window), (__m512i)at, load<ACROSS>(window + 16));
#elif defined(__AVX2__)
  if constexpr (WIDTH == 8) {
    return _mm256_permutevar8x32_ps(load<ACROSS>(window), (__m256i)at);
  } else {  // from either half: the bit that says which becomes a sign
    const Floats lower = pick<WIDTH / 2>(window, at), upper = pick<WIDTH / 2>(window + WIDTH / 2, at);
    return _mm256_blendv_ps(lower, upper, (Floats)(at << (32 - log2_up(WIDTH))));
  }
#else
  Floats picked = {};
  for (int l = 0; l < ACROSS; ++l) picked[l] = window[at[l]];
  return picked;
#endif
}

inline void add(Values value, const float* window, Words at, Floats& sum) {
  sum += value * pick<WINDOW>(window, at);
}

#endif

// Where in its window the group of a round's values begins; side by side where two stand together.
constexpr std::uint32_t first_of(int round) {
  std::uint32_t both = 0;
  for (int i = 0; i < TOGETHER; ++i) both |= std::uint32_t((round * TOGETHER + i) / N * M) << (i * WORD);
  return both;
}

struct Lanes {
  const Number* values;
  const Word* positions;
  std::int64_t m, steps;
};

// One band times C columns of b, whose windows take turns.
template <int C>
__attribute__((noinline)) void multiply(const Lanes& a, std::int64_t band, const Packed* b, Number* out,
                                        std::int64_t n) {
  constexpr int SETS = BOTH * C < CHAINS ? CHAINS / (BOTH * C) : 1;
  Floats sum[BOTH][SETS][C] = {};
  const Number* values = a.values + band * a.steps * WINDOWS * ROUNDS * BOTH * NUMBERS;
  const Word* positions = a.positions + band * a.steps * WORDS * BOTH * NUMBERS;
  for (std::int64_t step = 0; step < a.steps; ++step) {
    Words word[BOTH];
#pragma GCC unroll UNROLLED
    for (int round = 0; round < WINDOWS * ROUNDS; ++round) {
      const int field = round % FIELDS;
      const Packed* window = b + round / ROUNDS * C * WINDOW;
#pragma GCC unroll 2
      for (int i = 0; i < BOTH; ++i) {
        if (field == 0) word[i] = once(load<Words>(positions + (round / FIELDS * BOTH + i) * NUMBERS));
        const Words within = word[i] >> (field * BITS) & Word((1 << BITS) - 1);
        const Words at = within + (Words)(Wholes{} + first_of(round % ROUNDS));
        const Number* from = values + (round * BOTH + i) * NUMBERS;
        __builtin_prefetch(reinterpret_cast<const char*>(from) + AHEAD);
        const Values value = once(values_at(from));
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) add(value, window + c * WINDOW, at, sum[i][round % SETS][c]);
      }
    }
    values += WINDOWS * ROUNDS * BOTH * NUMBERS;
    positions += WORDS * BOTH * NUMBERS;
    b += WINDOWS * C * WINDOW;
  }
  for (int l = 0; l < LANES && band * LANES + l < a.m; ++l)
    for (int c = 0; c < C; ++c) {
      float total = 0;
      for (int s = 0; s < SETS; ++s) total += sum[l / ACROSS][s][c][l % ACROSS];
      narrow(total, out + (band * LANES + l) * n + c);
    }
}

// One window of as many columns as are multiplied at a time; what is beyond M or k is zero from the start.
void pack(const Number* b, std::int64_t window, std::int64_t k, std::int64_t columns, Packed* to) {
  const std::int64_t first = window * GROUPS * M, rest = k - first;
  for (std::int64_t c = 0; c < columns; ++c)
    for (int row = 0; row < GROUPS * M && row < rest; ++row)
      to[(window * columns + c) * WINDOW + row] = packed(b[c * k + first + row]);
}

}  // namespace

// Threads take chunks of bands; a chunk stays in L2 while the columns of b pass.
extern "C" void multiply(const Number* values, const Word* positions, const Number* b, Number* out,
                         std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t steps,
                         std::int64_t chunk, Packed* buffer, int threads) {
  const Lanes a{values, positions, m, steps};
  const std::int64_t bands = (m + LANES - 1) / LANES, windows = steps * WINDOWS;
  const bool as_is = sizeof(Packed) == sizeof(Number) && n == 1 && k == windows * WINDOW;
  const Packed* source = as_is ? reinterpret_cast<const Packed*>(b) : buffer;
#pragma omp parallel num_threads(threads)
  {
    if (!as_is) {
#pragma omp for schedule(static)
      for (std::int64_t window = 0; window < windows; ++window)
        for (std::int64_t column = 0; column < n; column += COLUMNS) {
          const std::int64_t columns = std::min<std::int64_t>(COLUMNS, n - column);
          pack(b + column * k, window, k, columns, buffer + column * windows * WINDOW);
        }
    }
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t first = 0; first < bands; first += chunk)
      for (std::int64_t column = 0; column < n; column += COLUMNS)
        for (std::int64_t band = first; band < bands && band < first + chunk; ++band)
          with<COLUMNS>(int(std::min<std::int64_t>(COLUMNS, n - column)), [&](auto columns) {
            multiply<columns>(a, band, source + column * windows * WINDOW, out + column, n);
          });
  }
}

extern "C" int lanes() { return LANES; }
extern "C" int window() { return WINDOW; }
extern "C" int together() { return TOGETHER; }
