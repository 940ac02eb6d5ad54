// Rows with their zeros in place again, out of packed values and what says where they stood; and their
// product with a few columns of b. While they are unpacked, numbers are moved, not understood: Number is then
// any type of their size.

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "constants.h"
#include "spread.h"
#include "vectors.h"

namespace {

constexpr int WORD = 64;  // positions that are spread at once

template <class Number>
inline void spread(std::uint64_t word, const Number* values, Number* to) {
  std::memset(to, 0, WORD * sizeof *to);
  for (; word; word &= word - 1) to[__builtin_ctzll(word)] = *values++;
}

#if defined(__AVX512F__)
inline void spread(std::uint64_t word, const std::uint32_t* values, std::uint32_t* to) {
  for (int first = 0; first < WORD; first += 16) {
    __m512i some = _mm512_loadu_si512(values);
    const __mmask16 where = std::uint16_t(word >> first);
    SPREAD("vpexpandd", some, where);
    _mm512_storeu_si512(to + first, some);
    values += __builtin_popcount(where);
  }
}
#endif

#if defined(__AVX512VBMI2__)
inline void spread(std::uint64_t word, const std::uint16_t* values, std::uint16_t* to) {
  for (int first = 0; first < WORD; first += 32) {
    __m512i some = _mm512_loadu_si512(values);
    const __mmask32 where = std::uint32_t(word >> first);
    SPREAD("vpexpandw", some, where);
    _mm512_storeu_si512(to + first, some);
    values += __builtin_popcount(where);
  }
}
#endif

// A row of k numbers; `next` is called for the bits of 64 positions after those of the 64 before.
template <class Number, class Next>
inline void row_of(std::int64_t k, const Number* values, Number* row, Next next) {
  std::int64_t first = 0;
  for (; first + WORD <= k; first += WORD) {
    const std::uint64_t word = next();
    spread(word, values, row + first);
    values += __builtin_popcountll(word);
  }
  if (first < k) {
    Number rest[WORD];
    spread(next(), values, rest);
    std::memcpy(row + first, rest, std::size_t(k - first) * sizeof *rest);
  }
}

template <class Number>
void bits(const Number* values, const std::uint64_t* words, const std::int64_t* starts, std::int64_t m,
          std::int64_t k, Number* dense, int threads) {
  const std::int64_t across = (k + WORD - 1) / WORD;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t row = 0; row < m; ++row) {
    const std::uint64_t* word = words + row * across;
    row_of(k, values + starts[row], dense + row * k, [&] { return *word++; });
  }
}

// For each byte of four places in two groups of four columns, the bits of those eight columns.
struct Pairs {
  std::uint8_t of[256];
  constexpr Pairs() : of() {
    for (int places = 0; places < 256; ++places)
      of[places] = std::uint8_t(1 << (places & 3) | 1 << (places >> 2 & 3) | 16 << (places >> 4 & 3) |
                                16 << (places >> 6 & 3));
  }
};
constexpr Pairs PAIRS;

// Two of every four columns: k is a multiple of four, and each row has its bytes of places to itself.
template <class Number>
void pairs(const Number* values, const std::uint8_t* places, std::int64_t m, std::int64_t k, Number* dense,
           int threads) {
  const std::int64_t bytes = (k + 7) / 8;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t row = 0; row < m; ++row) {
    const std::uint8_t *from = places + row * bytes, *end = from + bytes;
    row_of(k, values + row * (k / 2), dense + row * k, [&] {
      std::uint64_t word = 0;
      for (int at = 0; at < 8 && from < end; ++at) word |= std::uint64_t(PAIRS.of[*from++]) << 8 * at;
      return word;
    });
  }
}

template <class Number, class Column>
void columns(const Number* values, const Column* columns, const std::int32_t* starts, std::int64_t m,
             std::int64_t k, Number* dense, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t row = 0; row < m; ++row) {
    Number* to = dense + row * k;
    std::memset(to, 0, std::size_t(k) * sizeof *to);
    for (std::int32_t at = starts[row]; at < starts[row + 1]; ++at) to[columns[at]] = values[at];
  }
}

constexpr int SUMS = 16;  // of a vector: as many products, or twice as many, are added to them at once
using Floats = Vector<SUMS>;

// What is loaded at once, and how its products are added to sums in float32.
template <class Number>
struct Lanes;

template <>
struct Lanes<float> {
  static constexpr int COUNT = SUMS;
  typedef Floats Some;
  static Floats dot(Floats sum, Some a, Some b) { return sum + a * b; }
};

template <>
struct Lanes<bfloat16> {
#if defined(__AVX512BF16__)
  static constexpr int COUNT = 2 * SUMS;
  typedef __m512i Some;
  static Floats dot(Floats sum, Some a, Some b) {
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
  }
#else
  static constexpr int COUNT = SUMS;
  typedef Width<SUMS>::Halves Some;
  static Floats wide(Some some) { return (Floats)(__builtin_convertvector(some, Width<SUMS>::Bits) << 16); }
  static Floats dot(Floats sum, Some a, Some b) { return sum + wide(a) * wide(b); }
#endif
};

constexpr int SIDE = 4;  // rows, and columns of b, that share what was loaded

// b and out are column by column.
template <int ROWS, int COLUMNS, class Number>
__attribute__((noinline)) void products(const Number* weight, const Number* b, std::int64_t k, Number* out,
                                        std::int64_t stride) {
  typedef Lanes<Number> L;
  Floats sum[ROWS][COLUMNS] = {};
  std::int64_t at = 0;
  for (; at + L::COUNT <= k; at += L::COUNT) {
    typename L::Some x[COLUMNS];
    for (int j = 0; j < COLUMNS; ++j) x[j] = load<typename L::Some>(b + j * k + at);
    for (int i = 0; i < ROWS; ++i) {
      const auto w = load<typename L::Some>(weight + i * k + at);
      for (int j = 0; j < COLUMNS; ++j) sum[i][j] = L::dot(sum[i][j], w, x[j]);
    }
  }
  for (int i = 0; i < ROWS; ++i)
    for (int j = 0; j < COLUMNS; ++j) {
      float total = 0;
      for (int lane = 0; lane < SUMS; ++lane) total += sum[i][j][lane];
      for (std::int64_t rest = at; rest < k; ++rest)
        total += widen(weight[i * k + rest]) * widen(b[j * k + rest]);
      narrow(total, out + j * stride + i);
    }
}

template <class Number>
void multiply(const Number* weight, const Number* b, std::int64_t m, std::int64_t k, std::int64_t n,
              Number* out, std::int64_t stride, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t row = 0; row < m; row += SIDE)
    for (std::int64_t column = 0; column < n; column += SIDE)
      with<SIDE>(int(std::min<std::int64_t>(SIDE, m - row)), [&](auto rows) {
        with<SIDE>(int(std::min<std::int64_t>(SIDE, n - column)), [&](auto columns) {
          products<rows, columns>(weight + row * k, b + column * k, k, out + column * stride + row, stride);
        });
      });
}

}  // namespace

#define MULTIPLY(NAME, NUMBER)                                                                           \
  extern "C" void multiply_##NAME(const NUMBER* weight, const NUMBER* b, std::int64_t m, std::int64_t k, \
                                  std::int64_t n, NUMBER* out, std::int64_t stride, int threads) {       \
    multiply(weight, b, m, k, n, out, stride, threads);                                                  \
  }

MULTIPLY(float32, float)
MULTIPLY(bfloat16, bfloat16)

#define UNPACK(BITS)                                                                                      \
  extern "C" void bits_##BITS(const std::uint##BITS##_t* values, const std::uint64_t* words,              \
                              const std::int64_t* starts, std::int64_t m, std::int64_t k,                 \
                              std::uint##BITS##_t* dense, int threads) {                                  \
    bits(values, words, starts, m, k, dense, threads);                                                    \
  }                                                                                                       \
  extern "C" void pairs_##BITS(const std::uint##BITS##_t* values, const std::uint8_t* places,             \
                               std::int64_t m, std::int64_t k, std::uint##BITS##_t* dense, int threads) { \
    pairs(values, places, m, k, dense, threads);                                                          \
  }                                                                                                       \
  extern "C" void short_columns_##BITS(const std::uint##BITS##_t* values, const std::uint16_t* at,        \
                                       const std::int32_t* starts, std::int64_t m, std::int64_t k,        \
                                       std::uint##BITS##_t* dense, int threads) {                         \
    columns(values, at, starts, m, k, dense, threads);                                                    \
  }                                                                                                       \
  extern "C" void columns_##BITS(const std::uint##BITS##_t* values, const std::int32_t* at,               \
                                 const std::int32_t* starts, std::int64_t m, std::int64_t k,              \
                                 std::uint##BITS##_t* dense, int threads) {                               \
    columns(values, at, starts, m, k, dense, threads);                                                    \
  }

UNPACK(16)
UNPACK(32)
