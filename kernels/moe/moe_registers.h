// Rows times panels of weights, on registers.
//
// Up to ROWS rows times two panels are summed in registers. A unit of a row is spread over the lanes from
// memory.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "moe_parts.h"

namespace {

#if defined(__AVX512F__)
constexpr int MOST = 12;
#else
constexpr int MOST = 6;
#endif

inline void add(Vector<WIDE>& sum, Single a, Vector<WIDE> b) { sum += a.value * b; }

#if defined(__AVX512BF16__)
using Half = Pair;

inline void add(Vector<16>& sum, Pair a, Vector<16> b) {
  sum = (Vector<16>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)b, (__m512bh)_mm512_set1_epi32(a.both));
}

// Pairs of two rows of 32 numbers: those of the first 16 columns, and of the others.
inline void pair(const bfloat16* low, const bfloat16* high, Vector<16> (&made)[2]) {
  const __m512i a = load<__m512i>(low), b = load<__m512i>(high);
  for (int side = 0; side < 2; ++side) {
    Width<16>::Bits places = {};
    for (int i = 0; i < 16; ++i) places[i] = (16 * side + i) | (32 + 16 * side + i) << 16;
    made[side] = (Vector<16>)_mm512_permutex2var_epi16(a, (__m512i)places, b);
  }
}

// As `store`, 32 at a time.
inline void store(const Vector<16> (&values)[2], bfloat16* to) {
  const __m512bh halves = _mm512_cvtne2ps_pbh((__m512)values[1], (__m512)values[0]);
  std::memcpy(to, &halves, sizeof halves);
}
#else
using Half = Single;
#endif

template <class U>
struct Registers {
  using Unit = U;
  static constexpr int LANES = WIDE, ROWS = MOST, STEP = 1;
  static constexpr bool STAGED = false;  // hidden rows are multiplied where they are

  static std::int64_t units(std::int64_t numbers) { return up_to(numbers, Unit::NUMBERS); }
  static void begin() {}
  static void end() {}

  template <class Number>
  static void stage(const Number* row, std::int64_t length, std::int64_t units, std::int64_t r, Unit* near) {
    Unit* to = near + r * units;
    if constexpr (sizeof(Number) * Unit::NUMBERS == sizeof(Unit)) {
      if (length % Unit::NUMBERS) to[units - 1] = {};
      std::memcpy(static_cast<void*>(to), row, length * sizeof *row);
    } else {
      for (std::int64_t i = 0; i < length; ++i) to[i].value = widen(row[i]);
    }
  }

  static void multiply(const Unit* rows, std::int64_t count, const Unit* weights, std::int64_t units,
                       float* sums, const Ahead& ahead) {
    with<ROWS>(int(count), [&](auto r) { multiply<r>(rows, weights, units, sums, ahead); });
  }

  // Few rows would wait for the sum before: SETS of sums take turns. Nor do they fetch what is ahead, for
  // their own weights come from memory as fast as it delivers.
  template <int R>
  __attribute__((noinline)) static void multiply(const Unit* rows, const Unit* weights, std::int64_t units,
                                                 float* sums, const Ahead ahead) {
    constexpr int SETS = R <= 2 ? 4 : R <= 4 ? 2 : 1;
    Vector<LANES> sum[SETS][R][2] = {};
    const auto step = [&](std::int64_t unit, int set) {
      if constexpr (SETS == 1) ahead.fetch(unit, 1);
      Vector<LANES> weight[2];
      for (int side = 0; side < 2; ++side)
        weight[side] = once(load<Vector<LANES>>(weights + (side * units + unit) * LANES));
      for (int r = 0; r < R; ++r)
        for (int side = 0; side < 2; ++side) add(sum[set][r][side], rows[r * units + unit], weight[side]);
    };
    std::int64_t unit = 0;
    for (; unit + SETS <= units; unit += SETS) each<SETS>([&](auto set) { step(unit + set, set); });
    for (; unit < units; ++unit) step(unit, 0);
    for (int set = 1; set < SETS; ++set)
      for (int r = 0; r < R; ++r)
        for (int side = 0; side < 2; ++side) sum[0][r][side] += sum[set][r][side];
    for (int r = 0; r < R; ++r)
      for (int side = 0; side < 2; ++side) store<LANES>(sum[0][r][side], sums + (side * ROWS + r) * LANES);
  }
};

using Singles = Registers<Single>;
using Halves = Registers<Half>;

}  // namespace
