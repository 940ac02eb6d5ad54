// Vectors of W floats, loaded from floats or bfloat16 and stored as either.

#pragma once

#include <cstdint>
#include <cstring>

#include "bfloat16.h"

namespace {

#if defined(__AVX512F__)
constexpr int WIDE = 16;  // floats of the widest register
#elif defined(__AVX__)
constexpr int WIDE = 8;
#else
constexpr int WIDE = 4;
#endif
constexpr int LINE = 64;  // bytes

template <int W>
struct Width {
  typedef float Floats __attribute__((vector_size(W * 4)));
  typedef std::uint32_t Bits __attribute__((vector_size(W * 4)));
  typedef std::uint16_t Halves __attribute__((vector_size(W * 2)));
};
template <int W>
using Vector = typename Width<W>::Floats;

// The bytes as they are.
template <class Value>
inline Value load(const void* from) {
  Value value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <int W>
inline Vector<W> load(const float* from) {
  return load<Vector<W>>(from);
}

template <int W>
inline Vector<W> load(const bfloat16* from) {
  using Halves = typename Width<W>::Halves;
  return (Vector<W>)(__builtin_convertvector(load<Halves>(from), typename Width<W>::Bits) << 16);
}

template <int W>
inline void store(Vector<W> value, float* to) {
  std::memcpy(to, &value, sizeof value);
}

// As `narrow`, all at once.
template <int W>
inline void store(Vector<W> value, bfloat16* to) {
  typename Width<W>::Bits bits, nan = {};
  std::memcpy(&bits, &value, sizeof bits);
  nan += 0x7fc0;
  const auto nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const auto rounded = (bits & 0x7fffffff) > 0x7f800000 ? nan : nearest;
  const auto halves = __builtin_convertvector(rounded, typename Width<W>::Halves);
  std::memcpy(to, &halves, sizeof halves);
}

// A value that stays in its register: a compiler would rather load it anew for each use.
template <class Value>
inline Value once(Value value) {
  if constexpr (sizeof value <= WIDE * sizeof(float)) {
#if defined(__x86_64__)
    asm("" : "+v"(value));
#elif defined(__aarch64__)
    asm("" : "+w"(value));
#endif
  }
  return value;
}

// Loads bound sparse products: one of b for each multiply-add. AMD shuffles beside its multipliers, so there
// a value is spread from a register that holds several; Intel shuffles in one of its multipliers, and spreads
// from memory.
#if defined(__AVX2__) && (defined(__znver1__) || defined(__znver2__) || defined(__znver3__) || \
                          defined(__znver4__) || defined(__znver5__))
constexpr bool SPREAD_IN_REGISTERS = true;
#else
constexpr bool SPREAD_IN_REGISTERS = false;
#endif

}  // namespace
