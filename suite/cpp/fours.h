// Four neighbours of compressed rows at once: their values, their columns, and what these pick.

#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "vectors.h"

namespace {

// `spread` makes a vector of one of four values.
template <int W, class Number>
struct FourValues {
  const Number* from;
  Vector<4> value;

  explicit FourValues(const Number* at) : from(at) {
    if constexpr (SPREAD_IN_REGISTERS) value = load<4>(at);
  }

  template <int S>
  Vector<W> spread() const {
#if defined(__AVX512F__)
    if constexpr (SPREAD_IN_REGISTERS && W == 16)
      return (Vector<W>)_mm512_broadcastss_ps(_mm_permute_ps((__m128)value, S * 0x55));
#endif
#if defined(__AVX2__)
    if constexpr (SPREAD_IN_REGISTERS && W == 8)
      return (Vector<W>)_mm256_broadcastss_ps(_mm_permute_ps((__m128)value, S * 0x55));
#endif
    return widen(from[S]) - Vector<W>{};
  }
};

// Short columns come by one load instead of four.
template <class Column>
struct FourColumns {
  const Column* from;
  std::uint64_t packed;

  explicit FourColumns(const Column* at) : from(at) {
    if constexpr (sizeof(Column) == 2) packed = load<std::uint64_t>(at);
  }

  std::int64_t operator[](int s) const {
    if constexpr (sizeof(Column) == 2)
      return std::uint16_t(packed >> (16 * s));
    else
      return from[s];
  }
};

// Put together by hand: a gather is one instruction, yet on no processor at hand a faster one.
template <class Column>
inline Vector<4> pick_four(const float* x, const Column* columns) {
  const FourColumns<Column> at(columns);
  return Vector<4>{x[at[0]], x[at[1]], x[at[2]], x[at[3]]};
}

}  // namespace
