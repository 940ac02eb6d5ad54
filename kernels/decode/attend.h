// One query a head over the tokens of a cache, as flash decoding has it: what kernels over caches as they are
// and over compressed ones share.
//
// The tokens that a group of heads looks at are cut into splits, which threads take in turn; what comes of
// the splits is joined at the end. Within a split, tokens are taken a chunk at a time: scores, weights, and
// sums of values while the chunk is near. Rows of keys and values are read once for all heads that look at
// them. While keys are multiplied the chunk's values are fetched, and meanwhile the next chunk's keys.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "constants.h"
#include "powers.h"
#include "threads.h"
#include "vectors.h"

namespace {

constexpr int CHUNK = 64;             // tokens
constexpr int MOST_NUMBERS = 256;     // of a head
constexpr std::int64_t SPLIT = 1024;  // tokens; the same for any number of threads, as is the answer then
#if defined(__AVX512F__)
constexpr int SUMS = 16, MOST = 8;  // registers of sums; heads at once
#else
constexpr int SUMS = 8, MOST = 4;
#endif

// What does not change from call to call; decode_gather.py passes the same. A row is a query head.
struct Plan {
  const std::int32_t* starts;   // [n * h + 1], or null: all pages
  const std::int32_t* columns;  // pages
  const float* bias;            // [n, groups, there] added to the scores of a token, or null
  const void* k;                // [n, groups, there, d]
  const void* v;
  float* work;  // [n * h, splits] parts
  std::int64_t n, h, groups, there, d, page, splits, threads;

  std::int64_t heads() const { return h / groups; }
  std::int64_t part_floats() const { return d + 16; }  // sums, the highest score and the total
  float* part(std::int64_t row, std::int64_t split) const {
    return work + (row * splits + split) * part_floats();
  }
  std::int64_t tokens(std::int64_t row) const {
    return starts ? (starts[row + 1] - starts[row]) * page : there;
  }
  // The next of a row's tokens, from number `first` on.
  void list(std::int64_t row, std::int64_t first, int count, std::int32_t* to) const {
    if (!starts) {
      for (int i = 0; i < count; ++i) to[i] = std::int32_t(first + i);
      return;
    }
    const std::int32_t* column = columns + starts[row] + first / page;
    std::int64_t within = first % page;
    for (int i = 0; i < count; ++column, within = 0)
      for (; within < page && i < count; ++within, ++i) to[i] = std::int32_t(*column * page + within);
  }
  // Whether rows keep the same pages between these tokens.
  bool alike(std::int64_t row, std::int64_t other, std::int64_t first, std::int64_t last) const {
    if (!starts) return true;
    if (tokens(row) != tokens(other)) return false;
    const std::int64_t from = first / page, count = (last + page - 1) / page - from;
    const auto pages = [&](std::int64_t of) { return columns + starts[of] + from; };
    return !std::memcmp(pages(row), pages(other), count * sizeof *columns);
  }
};

// Numbers of a row as floats: of floats a register, of bfloat16 two, those of even and of odd places.
template <class Number, int W>
struct Row;

template <int W>
struct Row<float, W> {
  static constexpr int VECTORS = 1, NUMBERS = W;
  static void open(const float* from, Vector<W> (&x)[1]) { x[0] = load<W>(from); }
  static void close(const Vector<W> (&x)[1], float* to) { store<W>(x[0], to); }
};

template <int W>
struct Row<bfloat16, W> {
  static constexpr int VECTORS = 2, NUMBERS = 2 * W;
  typedef typename Width<W>::Bits Bits;
  static void open(const bfloat16* from, Vector<W> (&x)[2]) {
    const Bits both = load<Bits>(from);
    x[0] = (Vector<W>)(both << 16), x[1] = (Vector<W>)(both & 0xffff0000);
  }
  static Bits nearest(Vector<W> value) {
    const Bits bits = (Bits)value, nan = Bits{} + 0x7fc00000;
    return (bits & 0x7fffffff) > 0x7f800000 ? nan : bits + 0x7fff + ((bits >> 16) & 1);
  }
  static void close(const Vector<W> (&x)[2], bfloat16* to) {
    const Bits both = nearest(x[0]) >> 16 | (nearest(x[1]) & 0xffff0000);
    std::memcpy(static_cast<void*>(to), &both, sizeof both);
  }
};

// Of W vectors, the sum of each, in W lanes.
template <int W, int BY, int... I>
inline Vector<W> folded(Vector<W> a, Vector<W> b, std::integer_sequence<int, I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (I & BY ? W + I : I)...) +
         __builtin_shufflevector(a, b, (I & BY ? W + (I ^ BY) : I ^ BY)...);
#else
  typedef typename Width<W>::Bits Bits;
  return __builtin_shuffle(a, b, Bits{(I & BY ? W + I : I)...}) +
         __builtin_shuffle(a, b, Bits{(I & BY ? W + (I ^ BY) : I ^ BY)...});
#endif
}

template <int W, int BY = W / 2>
inline Vector<W> fold(Vector<W> (&x)[W]) {
  each<BY>([&](auto i) { x[i] = folded<W, BY>(x[i], x[i + BY], std::make_integer_sequence<int, W>()); });
  if constexpr (BY > 1) return fold<W, BY / 2>(x);
  return x[0];
}

// What of a row is multiplied at once with the same of a query, which is packed for it.
template <class Number, int W>
struct Unit {
  typedef Row<Number, W> Of;
  typedef float Part;
  static constexpr int NUMBERS = Of::NUMBERS;
  Vector<W> x[Of::VECTORS];

  explicit Unit(const Number* row) { Of::open(row, x); }
  struct Packed {};
  Unit(const Part* query, Packed) { std::memcpy(x, query, sizeof x); }
  static void pack(const Number* q, Part* to) {
    const Unit unit(q);
    std::memcpy(to, unit.x, sizeof unit.x);
  }
  static void add(Vector<W>& sum, const Unit& row, const Unit& query) {
    for (int i = 0; i < Of::VECTORS; ++i) sum += row.x[i] * query.x[i];
  }
};

#if defined(__AVX512BF16__)
template <>
struct Unit<bfloat16, 16> {
  typedef bfloat16 Part;
  static constexpr int NUMBERS = 32;
  __m512bh x;

  explicit Unit(const bfloat16* row) : x((__m512bh)_mm512_loadu_si512(row)) {}
  struct Packed {};
  Unit(const bfloat16* query, Packed) : Unit(query) {}
  static void pack(const bfloat16* q, Part* to) { std::memcpy(static_cast<void*>(to), q, 64); }
  static void add(Vector<16>& sum, const Unit& row, const Unit& query) {
    sum = (Vector<16>)_mm512_dpbf16_ps((__m512)sum, row.x, query.x);
  }
};
#endif

inline void fetch(const void* from, std::int64_t bytes) {
  for (std::int64_t at = 0; at < bytes; at += LINE) __builtin_prefetch(static_cast<const char*>(from) + at);
}

// Scores [R][CHUNK] of R queries; `ahead` are as many rows that will be wanted, or null. W sums at once, of
// so many rows with all queries.
template <int R, int W, class Number>
__attribute__((noinline)) void score(const Number* const* rows, const Number* const* ahead, int count,
                                     std::int64_t d, const typename Unit<Number, W>::Part* queries,
                                     float* to) {
  typedef Unit<Number, W> Of;
  constexpr int T = W / R;
  static_assert(T * R == W);
  for (int first = 0; first < count; first += T, rows += T) {
    if (ahead)
      for (int i = first; i < std::min(first + T, count); ++i) fetch(ahead[i], d * sizeof(Number));
    Vector<W> sum[W] = {};
    for (std::int64_t at = 0; at < d; at += Of::NUMBERS) {
      const auto of_query = [&](auto r, auto t, const Of& row) {
        Of::add(sum[r * T + t], row, Of(queries + r * d + at, typename Of::Packed()));
      };
      each<T>([&](auto t) {
        const Of row(rows[t] + at);
        each<R>([&](auto r) { of_query(r, t, row); });
      });
    }
    const Vector<W> sums = fold<W>(sum);
    for (int r = 0; r < R; ++r)
      std::memcpy(to + r * CHUNK + first, reinterpret_cast<const char*>(&sums) + r * T * sizeof(float),
                  T * sizeof(float));
  }
}

// Of one query: scores of a chunk become weights, which are powers of two.
struct Softened {
  float highest = -std::numeric_limits<float>::infinity(), total = 0, factor = 1;

  __attribute__((noinline)) void soften(float* at, int count, float scale, const float* bias,
                                        const std::int32_t* tokens) {
    constexpr int W = WIDE, VECTORS = CHUNK / W;
    constexpr float LOWEST = -std::numeric_limits<float>::infinity();
    for (int i = count; i < CHUNK; ++i) at[i] = LOWEST;
    if (bias)
      for (int i = 0; i < count; ++i) at[i] += bias[tokens[i]] / scale * 1.44269504f;
    Vector<W> x[VECTORS], most[1] = {highest - Vector<W>{}}, sum = {};
    each<VECTORS>([&](auto i) {
      x[i] = load<W>(at + i * W);
      most[0] = larger<W>(most[0], x[i]);
    });
    float high = most[0][0];
    for (int i = 1; i < W; ++i) high = std::max(high, most[0][i]);
    Vector<W> lower[1] = {highest - high - Vector<W>{}};
    power_of_two<W>(lower, scale);
    for (Vector<W>& each : x) each -= high;
    power_of_two<W>(x, scale);
    each<VECTORS>([&](auto i) {
      store<W>(x[i], at + i * W);
      sum += x[i];
    });
    factor = lower[0][0], highest = high, total *= factor;
    for (int i = 0; i < W; ++i) total += sum[i];
  }
};

// Rows by their weights [R][CHUNK], to S registers of each query's sums.
template <int R, int S, int W, class Number>
inline void add_slice(const Number* const* rows, const Number* const* ahead, int count, std::int64_t first,
                      std::int64_t bytes, const float* weights, const float* factors, float* const* sums) {
  typedef Row<Number, W> Of;
  constexpr int UNITS = S / Of::VECTORS;
  Vector<W> sum[R][S];
  for (int r = 0; r < R; ++r)
    for (int s = 0; s < S; ++s) sum[r][s] = load<W>(sums[r] + first + s * W) * factors[r];
  for (int at = 0; at < count; ++at) {
    if (ahead) fetch(ahead[at], bytes);
    each<UNITS>([&](auto unit) {
      Vector<W> x[Of::VECTORS];
      Of::open(rows[at] + first + unit * Of::NUMBERS, x);
      for (int r = 0; r < R; ++r)
        for (int i = 0; i < Of::VECTORS; ++i)
          sum[r][unit * Of::VECTORS + i] += weights[r * CHUNK + at] * x[i];
    });
  }
  for (int r = 0; r < R; ++r)
    for (int s = 0; s < S; ++s) store<W>(sum[r][s], sums[r] + first + s * W);
}

template <int R, int W, class Number>
__attribute__((noinline)) void add_values(const Number* const* rows, const Number* const* ahead, int count,
                                          std::int64_t d, const float* weights, const float* factors,
                                          float* const* sums) {
  constexpr int LEAST = Row<Number, W>::VECTORS, S = std::max(LEAST, std::min(8, SUMS / R));
  std::int64_t first = 0;
  for (; first + S * W <= d; first += S * W, ahead = nullptr)
    add_slice<R, S, W>(rows, ahead, count, first, d * sizeof(Number), weights, factors, sums);
  for (; first < d; first += LEAST * W, ahead = nullptr)
    add_slice<R, LEAST, W>(rows, ahead, count, first, d * sizeof(Number), weights, factors, sums);
}

// A chunk of a row's tokens and where their keys and values are.
template <class Number>
struct Chunk {
  int count = 0;
  std::int32_t tokens[CHUNK];
  const Number *keys[CHUNK], *values[CHUNK];
};

// R heads, from row `row` on, look at the tokens that the first of them keeps from `first` to `last`.
template <int R, int W, class Cache, class Number>
void attend_rows(const Plan& plan, Cache& cache, std::int64_t row, std::int64_t split, std::int64_t last,
                 const Number* q) {
  typedef Unit<Number, W> Of;
  const std::int64_t d = plan.d, first = split * SPLIT;
  const std::int64_t group = row / plan.h * plan.groups + row % plan.h / plan.heads();
  const float scale = 1.44269504f / std::sqrt(float(d));  // of scores to powers of two
  const float* bias = plan.bias ? plan.bias + group * plan.there : nullptr;
  alignas(LINE) typename Of::Part queries[R * MOST_NUMBERS];
  alignas(LINE) float weights[R * CHUNK];
  float* sums[R];
  Softened softened[R];
  for (int r = 0; r < R; ++r) {
    for (std::int64_t at = 0; at < d; at += Of::NUMBERS)
      Of::pack(q + (row + r) * d + at, queries + r * d + at);
    sums[r] = plan.part(row + r, split);
    std::memset(sums[r], 0, d * sizeof(float));
  }
  Chunk<Number> chunks[2];
  const auto open = [&](Chunk<Number>& chunk, std::int64_t from) {
    chunk.count = int(std::max<std::int64_t>(0, std::min<std::int64_t>(CHUNK, last - from)));
    if (!chunk.count) return;
    plan.list(row, from, chunk.count, chunk.tokens);
    cache.find(group, chunk);
  };
  open(chunks[0], first);
  for (std::int64_t from = first, turn = 0; from < last; from += CHUNK, turn ^= 1) {
    Chunk<Number>&now = chunks[turn], &next = chunks[turn ^ 1];
    open(next, from + CHUNK);
    const Number* const* keys = cache.keys(now);
    score<R, W>(keys, Cache::FETCHES ? now.values : nullptr, now.count, d, queries, weights);
    float factors[R];
    for (int r = 0; r < R; ++r) {
      softened[r].soften(weights + r * CHUNK, now.count, scale, bias, now.tokens);
      factors[r] = softened[r].factor;
    }
    const Number* const* values = cache.values(now);
    const bool fetches = Cache::FETCHES && next.count == now.count;
    add_values<R, W>(values, fetches ? next.keys : nullptr, now.count, d, weights, factors, sums);
  }
  for (int r = 0; r < R; ++r) sums[r][d] = softened[r].highest, sums[r][d + 1] = softened[r].total;
}

// A split of a group's heads: those that look at the same tokens together.
template <int W, class Cache, class Number>
void attend_split(const Plan& plan, Cache& cache, std::int64_t row, std::int64_t split, const Number* q) {
  const std::int64_t end = row + plan.heads(), first = split * SPLIT;
  while (row < end) {
    const std::int64_t last = std::min(first + SPLIT, plan.tokens(row));
    if (last <= first) {
      float* part = plan.part(row, split);
      part[plan.d + 1] = 0;
      ++row;
      continue;
    }
    std::int64_t same = 1;
    while (row + same < end && same < MOST && plan.alike(row, row + same, first, last)) ++same;
    const auto attend = [&](auto heads) {
      attend_rows<heads, W>(plan, cache, row, split, last, q);
      row += heads;
    };
    if (same >= 8 && MOST >= 8)
      attend(std::integral_constant<int, MOST>());
    else if (same >= 4)
      attend(std::integral_constant<int, 4>());
    else if (same >= 2)
      attend(std::integral_constant<int, 2>());
    else
      attend(std::integral_constant<int, 1>());
  }
}

// The answer of a row from those of its splits.
template <int W, class Number>
void join(const Plan& plan, std::int64_t row, Number* out) {
  typedef Row<Number, W> Of;
  const std::int64_t d = plan.d, splits = std::min(plan.splits, (plan.tokens(row) + SPLIT - 1) / SPLIT);
  out += row * d;
  float high = -std::numeric_limits<float>::infinity(), total = 0;
  for (std::int64_t split = 0; split < splits; ++split) high = std::max(high, plan.part(row, split)[d]);
  const float scale = 1.44269504f / std::sqrt(float(d));
  float* sums = plan.part(row, 0);
  for (std::int64_t split = 0; split < splits; ++split) {
    const float* part = plan.part(row, split);
    const float factor = std::exp2((part[d] - high) * scale);
    total += part[d + 1] * factor;
    for (std::int64_t at = 0; at < d; ++at) sums[at] = (split ? sums[at] : 0) + part[at] * factor;
  }
  if (!splits) std::memset(sums, 0, d * sizeof(float));
  const float share = splits ? 1 / total : 0;
  for (std::int64_t at = 0; at < d; at += Of::NUMBERS) {
    Vector<W> x[Of::VECTORS];
    for (int i = 0; i < Of::VECTORS; ++i) x[i] = load<W>(sums + at + i * W) * share;
    Of::close(x, out + at);
  }
}

template <int W, class Cache, class Number>
void attend_with(const Plan& plan, const Cache& shared, const Number* q, Number* out) {
#pragma omp parallel num_threads(plan.threads)
  {
    Cache cache(shared);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t at = 0; at < plan.n * plan.groups * plan.splits; ++at)
      attend_split<W>(plan, cache, at / plan.splits * plan.heads(), at % plan.splits, q);
#pragma omp for schedule(static)
    for (std::int64_t row = 0; row < plan.n * plan.h; ++row) join<W>(plan, row, out);
  }
}

// A cache says where the rows of a chunk are: `find`, then `keys` and `values` when they are wanted, and
// whether it is worth fetching them ahead. Each thread has a copy. Rows of bfloat16 that wide registers do
// not fill go through narrower ones.
template <class Cache, class Number>
void attend(const Plan& plan, const Cache& cache, const Number* q, Number* out) {
  constexpr int UNIT = 16;  // numbers of a head come in multiples of it
  if constexpr (Row<Number, WIDE>::NUMBERS > UNIT)
    if (plan.d % Row<Number, WIDE>::NUMBERS) return attend_with<WIDE / 2>(plan, cache, q, out);
  attend_with<WIDE>(plan, cache, q, out);
}

}  // namespace
