// out[n, h, d] = softmax(q k^T / sqrt(d)) v over a cache as a padded bitmap (suite/formats/padded_bitmap.py).
//
// The rows of a chunk are spread to their places in memory that is near, and from there on treated as any.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../decode/attend.h"
#include "spread.h"

namespace {

constexpr int TILE = 64, FILL = 8;  // positions; values
constexpr int AHEAD = 4096;         // bytes of values: those of the next chunk

// The values of a tile to their places, 0 elsewhere; whole registers are read.
template <class Number>
inline void spread(std::uint64_t word, const Number* values, Number* to) {
  std::memset(static_cast<void*>(to), 0, TILE * sizeof *to);
  for (; word; word &= word - 1) to[__builtin_ctzll(word)] = *values++;
}

#if defined(__AVX512F__)
template <>
inline void spread(std::uint64_t word, const float* values, float* to) {
  for (int first = 0; first < TILE; first += 16, word >>= 16, to += 16) {
    __m512 wide = _mm512_loadu_ps(values);
    SPREAD("vexpandps", wide, __mmask16(word));
    _mm512_store_ps(to, wide);
    values += __builtin_popcount(std::uint32_t(word) & 0xffff);
  }
}
#endif

#if defined(__AVX512VBMI2__)
template <>
inline void spread(std::uint64_t word, const bfloat16* values, bfloat16* to) {
  for (int first = 0; first < TILE; first += 32, word >>= 32, to += 32) {
    __m512i wide = _mm512_loadu_si512(values);
    SPREAD("vpexpandw", wide, __mmask32(word));
    _mm512_store_si512(to, wide);
    values += __builtin_popcount(std::uint32_t(word));
  }
}
#endif

template <class Number>
struct Packed {
  static constexpr bool FETCHES = false;
  const Plan& plan;
  const std::uint64_t* bits;   // [rows, tiles]
  const std::int32_t* starts;  // [rows, tiles], in FILL values
  const Number* packed;
  std::int64_t tiles, group = 0;
  alignas(LINE) Number near[CHUNK * MOST_NUMBERS];
  const Number* rows[CHUNK];

  Packed(const Plan& plan, const std::uint64_t* bits, const std::int32_t* starts, const Number* packed)
      : plan(plan), bits(bits), starts(starts), packed(packed), tiles((plan.d + TILE - 1) / TILE) {}
  Packed(const Packed& other) : Packed(other.plan, other.bits, other.starts, other.packed) {}

  void find(std::int64_t of, const Chunk<Number>&) { group = of; }

  const Number* const* opened(const Chunk<Number>& chunk, std::int64_t first) {
    for (int i = 0; i < CHUNK; ++i) {
      if (i >= chunk.count) {
        rows[i] = near;
        continue;
      }
      Number* to = near + i * tiles * TILE;
      rows[i] = to;
      const std::int64_t row = (first + chunk.tokens[i]) * tiles;
      for (std::int64_t at = row; at < row + tiles; ++at, to += TILE) {
        const Number* values = packed + std::int64_t(starts[at]) * FILL;
        __builtin_prefetch(reinterpret_cast<const char*>(values) + AHEAD);
        spread(bits[at], values, to);
      }
    }
    return rows;
  }
  const Number* const* keys(const Chunk<Number>& chunk) { return opened(chunk, group * plan.there); }
  const Number* const* values(const Chunk<Number>& chunk) {
    return opened(chunk, (plan.n * plan.groups + group) * plan.there);
  }
};

}  // namespace

#define DECODE(NAME, NUMBER)                                                                             \
  extern "C" void NAME(const Plan* plan, const std::uint64_t* bits, const std::int32_t* starts,          \
                       const NUMBER* values, const NUMBER* q, NUMBER* out) {                             \
    attend(*plan, Packed<NUMBER>(*plan, bits, starts, values), q, out);                                  \
  }

DECODE(decode_float32, float)
DECODE(decode_bfloat16, bfloat16)

extern "C" std::int64_t split() { return SPLIT; }
