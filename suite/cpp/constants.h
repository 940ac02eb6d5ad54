// Numbers as constants, for code that names its registers or keeps arrays in them.

#pragma once

#include <type_traits>
#include <utility>

namespace {

template <class F, int... I>
__attribute__((always_inline)) inline void each(F f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>()), ...);
}

// Calls f with 0 to COUNT - 1, without a loop: a compiler keeps arrays that a loop walks through in memory.
template <int COUNT, class F>
__attribute__((always_inline)) inline void each(F f) {
  each(f, std::make_integer_sequence<int, COUNT>());
}

// Calls f with a number from 1 to MOST. What f calls is best not inlined: among others of its kind, a
// compiler would run out of registers.
template <int MOST, class F>
inline void with(int number, const F& f) {
  if (number == MOST)
    f(std::integral_constant<int, MOST>());
  else if constexpr (MOST > 1)
    with<MOST - 1>(number, f);
}

}  // namespace
