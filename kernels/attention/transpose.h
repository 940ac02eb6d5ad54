// Rows to columns, in registers.

#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "constants.h"
#include "vectors.h"

namespace {

// Of two rows that are BY apart, the upper or lower one after squares of side BY have changed places.
template <int W, int BY, bool UPPER, int... I>
inline Vector<W> swapped(Vector<W> a, Vector<W> b, std::integer_sequence<int, I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (I & BY ? W + I - UPPER * BY : I + !UPPER * BY)...);
#else
  return __builtin_shuffle(a, b, typename Width<W>::Bits{(I & BY ? W + I - UPPER * BY : I + !UPPER * BY)...});
#endif
}

template <int W, int BY = W / 2>
inline void transpose(Vector<W> (&rows)[W]) {
  each<W>([&](auto i) {
    if constexpr ((i & BY) == 0) {
      const Vector<W> a = rows[i], b = rows[i + BY];
      rows[i] = swapped<W, BY, true>(a, b, std::make_integer_sequence<int, W>());
      rows[i + BY] = swapped<W, BY, false>(a, b, std::make_integer_sequence<int, W>());
    }
  });
  if constexpr (BY > 1) transpose<W, BY / 2>(rows);
}

// W rows, `apart` numbers apart, of so many units, to as many rows of W. A unit is one number as a float,
// or two of 16 bits.
template <int W, class Number, class Unit>
inline void turn(const Number* from, std::int64_t apart, std::int64_t units, Unit* to) {
  constexpr int NUMBERS = Unit::NUMBERS;
  const auto part = [&](std::int64_t first) {
    Vector<W> rows[W];
    for (int i = 0; i < W; ++i) {
      const Number* at = from + i * apart + first * NUMBERS;
      if constexpr (NUMBERS == 1)
        rows[i] = load<W>(at);
      else
        rows[i] = load<Vector<W>>(at);
    }
    transpose<W>(rows);
    std::memcpy(static_cast<void*>(to + first * W), rows, sizeof rows);
  };
  std::int64_t first = 0;
  for (; first + W <= units; first += W) part(first);
  if (first == units) return;
  if (units >= W) return part(units - W);  // some of them again
  for (; first < units; ++first, from += NUMBERS, to += W)
    for (int i = 0; i < W; ++i) {
      if constexpr (NUMBERS == 1)
        to[i] = {widen(from[i * apart])};
      else
        std::memcpy(static_cast<void*>(to + i), from + i * apart, sizeof *to);
    }
}

}  // namespace
