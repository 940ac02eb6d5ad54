// Attention over the blocks that a mask keeps: what kernels on registers and on tiles share.
//
// A panel is some queries of a block, LANES to a column, each in a lane of its own. Scores are K Q^T, a row a
// key, so that what the softmax needs of each query, its highest score and its total, comes by whole
// registers. As weights they stay where they are, and are the right side of V^T W.
//
// Keys are taken a chunk at a time. When a chunk brings a higher score, sums from before are scaled down. Where
// PASSES_OVER is defined, a chunk whose scores are all too low to matter gets no further.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "constants.h"
#include "powers.h"
#include "threads.h"
#include "transpose.h"
#include "vectors.h"

namespace {

constexpr int CHUNK = 128;                   // keys whose scores stay near; a block has no more
constexpr int LEAST_BLOCK = 16;              // tokens
constexpr int APART = LINE / sizeof(float);  // floats between columns, lest their lines crowd in the cache
#if defined(__AVX512F__)
constexpr int AT_ONCE = 8;  // scores that become weights, as registers allow
#else
constexpr int AT_ONCE = 2;
#endif

// What does not change from call to call; attention_block.py passes the same. A row is a block of queries.
struct Plan {
  const std::int32_t* starts;   // [heads * n / block + 1]
  const std::int32_t* columns;  // blocks of keys
  const std::int32_t* order;    // [heads * n / block] rows as they are worked on
  const float* bias;            // [groups, there] added to the scores of a key before they are scaled, or null
  void* keys;                   // [groups, there, d] if they are packed
  void* values;                 // likewise
  void* work;                   // [threads] of `room` bytes
  std::int64_t heads, groups, n, there, d, block, causal, threads;  // of n queries, and keys that are there
  // Where chunks are passed over: how far from the highest a score counts, and pairs whose key was not looked at.
  double least;
  std::int64_t* passed;

  std::int64_t blocks() const { return n / block; }
};

// Numbers of two vectors, in turn.
struct alignas(LINE) Interleaved {
  std::uint16_t order[32] = {};

  constexpr Interleaved() {
    for (int i = 0; i < 32; ++i) order[i] = std::uint16_t(i / 2 + i % 2 * 16);
  }
};

// A unit is what one lane multiplies at a time: a float, or a pair of bfloat16 numbers.
struct Single {
  static constexpr int NUMBERS = 1;
  float value;
};

struct Pair {
  static constexpr int NUMBERS = 2;
  std::uint32_t both;  // the first in the lower half
};

// Weights of two keys, as units along keys.
template <int W>
inline void keep(const Vector<W>* weights, Single* to) {
  for (int i = 0; i < 2; ++i) store<W>(weights[i], &to[i * W].value);
}

template <int W>
inline void keep(const Vector<W>* weights, Pair* to) {
#if defined(__AVX512BF16__)
  if constexpr (W == 16) {
    static constexpr Interleaved ORDER;
    const auto both = (__m512i)_mm512_cvtne2ps_pbh((__m512)weights[1], (__m512)weights[0]);
    const auto pairs = _mm512_permutexvar_epi16(_mm512_load_si512(&ORDER), both);
    std::memcpy(static_cast<void*>(to), &pairs, sizeof pairs);
    return;
  }
#endif
  for (int lane = 0; lane < W; ++lane) {
    bfloat16 both[2];
    for (int i = 0; i < 2; ++i) narrow(weights[i][lane], both + i);
    std::memcpy(static_cast<void*>(to + lane), both, sizeof both);
  }
}

inline Pair pair_of(bfloat16 lower, bfloat16 upper) {
  return {lower.bits | std::uint32_t(upper.bits) << 16};
}

// A thread's own. Strides of columns are in units or floats.
template <class Products>
struct Panel {
  using Unit = typename Products::Unit;
  static constexpr int LANES = Products::LANES, MOST = Products::MOST;
  using Floats = Vector<LANES>;
  static constexpr std::int64_t SCORES = CHUNK * LANES + APART;

  std::int64_t units, d, queries_apart, sums_apart;
  Unit* queries;  // [columns][units][LANES]
  float* scores;  // [columns][CHUNK][LANES], and in their place the weights, by units along keys
  float* sums;    // [columns][d][LANES]
  Floats highest[MOST], total[MOST], factor[MOST];

  explicit Panel(const Plan& plan)
      : units(Products::units(plan.d)),
        d(plan.d),
        queries_apart(units * LANES + APART),
        sums_apart(d * LANES + APART) {
    char* own = static_cast<char*>(plan.work) + thread_number() * room(d);
    scores = reinterpret_cast<float*>(own);
    sums = scores + MOST * SCORES;
    queries = reinterpret_cast<Unit*>(sums + MOST * sums_apart);
  }

  static std::int64_t room(std::int64_t d) {  // bytes, for units are as wide as floats
    const std::int64_t rows = CHUNK + d + Products::units(d);
    return MOST * (rows * LANES + 3 * APART) * std::int64_t(sizeof(float));
  }

  const Unit* weights(int column) const {
    return reinterpret_cast<const Unit*>(scores + column * SCORES);
  }

  // Begins with these queries.
  template <class Number>
  void open(const Number* q, int columns) {
    const std::int64_t there = d / Unit::NUMBERS;
    for (int column = 0; column < columns; ++column) {
      Unit* own = queries + column * queries_apart;
      turn<LANES>(q + column * LANES * d, d, there, own);
      std::memset(static_cast<void*>(own + there * LANES), 0, (units - there) * LANES * sizeof *own);
      std::memset(sums + column * sums_apart, 0, d * LANES * sizeof(float));
      highest[column] = -std::numeric_limits<float>::infinity() - Floats{};
      total[column] = Floats{};
    }
  }

  // Scores of keys that come after a query; the panel's first query is level with key number `first`.
  __attribute__((noinline)) void hide(int columns, float* from, std::int64_t count, std::int64_t first) {
    Floats query;
    for (int i = 0; i < LANES; ++i) query[i] = float(first + i);
    const Floats lowest = -std::numeric_limits<float>::infinity() - Floats{};
    for (int column = 0; column < columns; ++column, query += float(LANES))
      for (std::int64_t key = 0; key < count; ++key) {
        float* at = from + column * SCORES + key * LANES;
        store<LANES>(query < float(key) ? lowest : load<LANES>(at), at);
      }
  }

  __attribute__((noinline)) void shift(int columns, float* from, std::int64_t count, const float* bias) {
    for (int column = 0; column < columns; ++column)
      for (std::int64_t key = 0; key < count; ++key) {
        float* at = from + column * SCORES + key * LANES;
        store<LANES>(load<LANES>(at) + bias[key], at);
      }
  }

  // Whether the scores of so many keys are all further than that below the highest so far of their query.
  bool far_below(int columns, std::int64_t count, float least) const {
    bool far = true;
    for (int column = 0; column < columns && far; ++column) {
      Floats most = load<LANES>(scores + column * SCORES);
      for (std::int64_t key = 1; key < count; ++key)
        most = larger<LANES>(most, load<LANES>(scores + column * SCORES + key * LANES));
      for (int lane = 0; lane < LANES; ++lane) far &= most[lane] < highest[column][lane] + least;
    }
    return far;
  }

  // Scores of so many keys become weights.
  __attribute__((noinline)) void soften(int columns, std::int64_t count, float scale) {
    constexpr int PARTS = 4;
    for (int column = 0; column < columns; ++column) {
      const float* at = scores + column * SCORES;
      Floats most[PARTS];
      for (Floats& part : most) part = highest[column];
      for (std::int64_t key = 0; key < count; key += PARTS)
        for (int i = 0; i < PARTS; ++i) most[i] = larger<LANES>(most[i], load<LANES>(at + (key + i) * LANES));
      const Floats high = larger<LANES>(larger<LANES>(most[0], most[1]), larger<LANES>(most[2], most[3]));
      Floats lower[1] = {highest[column] - high};
      power_of_two<LANES>(lower, scale);
      factor[column] = lower[0], highest[column] = high;
    }
    for (int column = 0; column < columns; ++column) {
      const float* at = scores + column * SCORES;
      const Floats high = highest[column];
      Floats sum[2] = {total[column] * factor[column], Floats{}}, weights[AT_ONCE];
      auto* to = reinterpret_cast<Unit*>(scores + column * SCORES);
      for (std::int64_t key = 0; key < count; key += AT_ONCE, at += AT_ONCE * LANES) {
        each<AT_ONCE>([&](auto i) { weights[i] = load<LANES>(at + i * LANES) - high; });
        power_of_two<LANES>(weights, scale);
        each<AT_ONCE>([&](auto i) { sum[i % 2] += weights[i]; });
        each<AT_ONCE / 2>([&](auto i) {
          keep<LANES>(weights + 2 * i, to);
          to += 2 / Unit::NUMBERS * LANES;
        });
      }
      total[column] = sum[0] + sum[1];
    }
  }

  // Writes the answer of these queries.
  template <class Number>
  void close(int columns, Number* out) {
    for (int column = 0; column < columns; ++column, out += LANES * d) {
      const Floats share = 1 / total[column];
      for (std::int64_t at = 0; at < d; at += LANES) {
        Floats rows[LANES];
        for (int i = 0; i < LANES; ++i)
          rows[i] = load<LANES>(sums + column * sums_apart + (at + i) * LANES) * share;
        transpose<LANES>(rows);
        for (int i = 0; i < LANES; ++i) store<LANES>(rows[i], out + i * d + at);
      }
    }
  }
};

// Calls f with how many columns a panel has: as many as a block fills.
template <class Products, class F>
void with_columns(std::int64_t number, const F& f) {
  constexpr int MOST = Products::MOST;
  if (number >= MOST)
    f(std::integral_constant<int, MOST>());
  else if (number >= 2)
    f(std::integral_constant<int, std::min(2, MOST)>());
  else
    f(std::integral_constant<int, 1>());
}

// Keys of one block that a panel looks at: where their values begin, and how many units.
template <class Unit>
struct Seen {
  const Unit* values;
  std::int64_t units;
};

// A row of the mask, panel by panel.
template <class Products, class Number>
void attend_row(const Plan& plan, Panel<Products>& panel, std::int64_t row, const Number* q,
                const typename Products::Unit* keys, const typename Products::Unit* values, Number* out) {
  using Unit = typename Products::Unit;
  constexpr int LANES = Products::LANES;
  const std::int64_t block = plan.block, kept = plan.starts[row + 1] - plan.starts[row], d = plan.d;
  const std::int32_t* columns = plan.columns + plan.starts[row];
  q += row * block * d, out += row * block * d;
  if (!kept) {
    std::memset(static_cast<void*>(out), 0, block * d * sizeof *out);
    return;
  }
  const std::int64_t group = row / plan.blocks() / (plan.heads / plan.groups);
  keys += group * plan.there * panel.units, values += group * plan.there / Unit::NUMBERS * d;
  const float* bias = plan.bias ? plan.bias + group * plan.there : nullptr;
  const std::int64_t width = Products::width(block), at_once = CHUNK / block;
  const std::int64_t own = plan.causal ? row % plan.blocks() : -1;  // the block seen up to the query alone
  const float scale = 1.44269504f / std::sqrt(float(d));  // of scores to powers of two
  [[maybe_unused]] std::int64_t passed = 0;
  with_columns<Products>(width / LANES, [&](auto number) {
    constexpr int V = number;
    for (std::int64_t first = 0; first < block; first += width) {
      panel.open(q + first * d, V);
      for (std::int64_t from = 0; from < kept; from += at_once) {
        const std::int64_t to = std::min(from + at_once, kept);
        Seen<Unit> seen[CHUNK / LEAST_BLOCK];
        std::int64_t count = 0;
        for (std::int64_t at = from; at < to; ++at) {
          const bool level = columns[at] == own;
          const std::int64_t key = columns[at] * block, there = level ? first + width : block;
          float* scores = panel.scores + count * LANES;
          Products::template score<V>(panel, keys + key * panel.units, there, scores);
          if (bias) panel.shift(V, scores, there, bias + key);
          if (level) panel.hide(V, scores, there, first);
          seen[at - from] = {values + key / Unit::NUMBERS * d, there / Unit::NUMBERS};
          count += there;
        }
#if defined(PASSES_OVER)
        if (from && panel.far_below(V, count, float(plan.least))) {
          passed += count * width;
          continue;
        }
#endif
        panel.soften(V, count, scale);
        Products::template add_values<V>(panel, seen, int(to - from));
      }
      panel.close(V, out + first * d);
    }
  });
#if defined(PASSES_OVER)
#pragma omp atomic
  *plan.passed += passed;
#endif
}

// What a plan needs: bytes of packed keys, of packed values, of a thread's work; queries of a panel; numbers
// of a query that are multiplied with those of a key.
struct Sizes {
  std::int64_t keys, values, work, width, depth;
};

template <class Products>
Sizes sizes(const Plan& plan) {
  using Unit = typename Products::Unit;
  constexpr int NUMBERS = Unit::NUMBERS;
  const std::int64_t units = Products::units(plan.d), all = plan.groups * plan.there * sizeof(Unit);
  return {Products::PACKS_KEYS ? all * units : 0,
          Products::PACKS_VALUES ? all / NUMBERS * plan.d : 0, Panel<Products>::room(plan.d),
          Products::width(plan.block), units * NUMBERS};
}

// Products says how keys and values are packed and multiplied, and how many queries share what is loaded.
template <class Products, class Number>
void attend(const Plan& plan, const Number* q, const Number* k, const Number* v, Number* out) {
  using Unit = typename Products::Unit;
  constexpr bool KEYS = Products::PACKS_KEYS, VALUES = Products::PACKS_VALUES;
  const std::int64_t block = plan.block, d = plan.d, units = Products::units(d);
  const auto packed_keys = static_cast<Unit*>(plan.keys), packed_values = static_cast<Unit*>(plan.values);
  const auto keys = KEYS ? packed_keys : reinterpret_cast<const Unit*>(k);
  const auto values = VALUES ? packed_values : reinterpret_cast<const Unit*>(v);
#pragma omp parallel num_threads(plan.threads)
  {
    Products::begin();
#pragma omp for schedule(static)
    for (std::int64_t at = 0; at < plan.groups * plan.there; at += block) {
      if constexpr (KEYS) Products::pack_keys(k + at * d, block, d, packed_keys + at * units);
      if constexpr (VALUES)
        Products::pack_values(v + at * d, block, d, packed_values + at / Unit::NUMBERS * d);
    }
    Panel<Products> panel(plan);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t at = 0; at < plan.heads * plan.blocks(); ++at)
      attend_row(plan, panel, plan.order[at], q, keys, values, out);
    Products::end();
  }
}

}  // namespace
