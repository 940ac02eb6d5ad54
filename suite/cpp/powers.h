// Powers of two of vectors, for softmax.

#pragma once

#include "constants.h"
#include "vectors.h"

namespace {

template <int W>
inline Vector<W> larger(Vector<W> a, Vector<W> b) {
  return a > b ? a : b;
}

// 2^(x scale), of x scale at most 0, to 2e-7 of it: 1 of 0, and 0 from -126.5 down. Several at once, step by
// step, for each step waits for the one before.
template <int W, int N>
inline void power_of_two(Vector<W> (&x)[N], float scale) {
  constexpr float WHOLE = 12582912 + 127;  // added, it leaves whole numbers, the exponent's bits at their end
  const Vector<W> least = -127 / scale - Vector<W>{};
  Vector<W> sum[N], p[N];
  each<N>([&](auto i) { x[i] = larger<W>(x[i], least); });
  each<N>([&](auto i) { sum[i] = x[i] * scale + WHOLE; });
  each<N>([&](auto i) { x[i] = x[i] * scale - (sum[i] - WHOLE); });  // what is left, half at most
  each<N>([&](auto i) { p[i] = x[i] * 1.3264727e-3f + 9.6715130e-3f; });
  each<N>([&](auto i) { p[i] = p[i] * x[i] + 5.5507336e-2f; });
  each<N>([&](auto i) { p[i] = p[i] * x[i] + 2.4022242e-1f; });
  each<N>([&](auto i) { p[i] = p[i] * x[i] + 6.9314700e-1f; });
  each<N>([&](auto i) { p[i] = p[i] * x[i] + 1.f; });
  each<N>([&](auto i) { x[i] = p[i] * (Vector<W>)((typename Width<W>::Bits)sum[i] << 23); });
}

}  // namespace
