// Neurons that count: those of which some token's activation reaches the cut, as bits and as a list.
//
// Magnitudes of floats are in the order of their bits, so they are compared as whole numbers.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512BW__)
#include <immintrin.h>
#endif

#include "bfloat16.h"

namespace {

constexpr std::int64_t WORD = 64;  // neurons

inline std::uint16_t magnitude(bfloat16 value) { return value.bits & 0x7fff; }

inline std::uint32_t magnitude(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits & 0x7fffffff;
}

template <class Number>
inline bool reaches(Number value, Number cut) {
  return magnitude(value) >= magnitude(cut);
}

// A bit for each of up to 64 neurons side by side.
template <class Number>
inline std::uint64_t reaching(const Number* x, const Number* cut, std::int64_t count) {
  std::uint64_t bits = 0;
#if defined(__AVX512BW__)
  constexpr int LANES = 64 / sizeof(Number);
  if (count == WORD) {
    const __m512i size = sizeof(Number) == 2 ? _mm512_set1_epi16(0x7fff) : _mm512_set1_epi32(0x7fffffff);
    for (int at = 0; at < WORD; at += LANES) {
      const __m512i value = _mm512_and_si512(_mm512_loadu_si512(x + at), size);
      const __m512i most = _mm512_loadu_si512(cut + at);
      if constexpr (sizeof(Number) == 2)
        bits |= std::uint64_t(_mm512_cmpge_epu16_mask(value, most)) << at;
      else
        bits |= std::uint64_t(_mm512_cmpge_epu32_mask(value, most)) << at;
    }
    return bits;
  }
#endif
  for (std::int64_t at = 0; at < count; ++at) bits |= std::uint64_t(reaches(x[at], cut[at])) << at;
  return bits;
}

// Of n tokens: neurons are `between` numbers apart, tokens `apart`; one of the two is 1.
template <class Number>
struct Activations {
  const Number *from, *cut;
  std::int64_t neurons, n, between, apart;

  std::int64_t words() const { return (neurons + WORD - 1) / WORD; }

  bool counts(std::int64_t neuron, std::int64_t token) const {
    return reaches(at(neuron, token), cut[neuron]);
  }

  Number at(std::int64_t neuron, std::int64_t token) const { return from[neuron * between + token * apart]; }

  // A bit for each neuron of a word that counts for any token.
  std::uint64_t word(std::int64_t number) const {
    const std::int64_t first = number * WORD, count = std::min(WORD, neurons - first);
    std::uint64_t bits = 0;
    if (between == 1) {
      for (std::int64_t token = 0; token < n; ++token)
        bits |= reaching(from + first + token * apart, cut + first, count);
      return bits;
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const Number* row = from + (first + i) * between;
      auto largest = magnitude(row[0]);
      for (std::int64_t token = 1; token < n; ++token) largest = std::max(largest, magnitude(row[token]));
      bits |= std::uint64_t(largest >= magnitude(cut[first + i])) << i;
    }
    return bits;
  }
};

inline std::int64_t count(const std::uint64_t* words, std::int64_t number) {
  std::int64_t found = 0;
  for (std::int64_t at = 0; at < number; ++at) found += __builtin_popcountll(words[at]);
  return found;
}

// The neurons of which as many as `first` to `last` (exclusive) come before, each at its place in the list.
inline void list(const std::uint64_t* words, std::int64_t first, std::int64_t last, std::int32_t* neurons) {
  for (std::int64_t word = 0, rank = 0; rank < last; ++word) {
    std::uint64_t bits = words[word];
    const std::int64_t here = __builtin_popcountll(bits);
    if (rank + here <= first) {
      rank += here;
      continue;
    }
    for (; bits; bits &= bits - 1, ++rank)
      if (rank >= first && rank < last) neurons[rank] = std::int32_t(word * WORD + __builtin_ctzll(bits));
  }
}

}  // namespace
