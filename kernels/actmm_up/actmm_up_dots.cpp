// out[n, m] = (g * (w @ x))^T where g counts, else 0, with w as it is but for whole lines: [m, stride].
//
// Each thread multiplies its share of the rows that count for some token, ROWS side by side. What comes next,
// of these rows or of the next ones, is fetched ahead: where rows are skipped, the hardware's own prefetching
// does not know.

#include <algorithm>
#include <cstdint>

#include "constants.h"
#include "live.h"
#include "vectors.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

constexpr int ROWS = 4, TOKENS = WIDE == 16 ? 4 : 2;  // at a time: as many sums as fit into registers
constexpr std::int64_t AHEAD = 1 << 10;               // bytes of a row
constexpr std::int64_t STRETCH = 512;                 // numbers of a row

// STEP weights of a row times as many numbers of a token.
template <class Number>
struct Singles {
  static constexpr int STEP = WIDE;
  using Packed = float;

  static Packed pack(Number value) { return widen(value); }
  static Vector<WIDE> row(const Number* from) { return load<WIDE>(from); }
  static Vector<WIDE> token(const Packed* from) { return load<WIDE>(from); }
  static void add(Vector<WIDE>& sum, Vector<WIDE> w, Vector<WIDE> x) { sum += w * x; }
};

#if defined(__AVX512BF16__)
struct Pairs {
  static constexpr int STEP = 2 * WIDE;
  using Packed = bfloat16;

  static Packed pack(bfloat16 value) { return value; }
  static Vector<WIDE> row(const bfloat16* from) { return load<Vector<WIDE>>(from); }
  static Vector<WIDE> token(const bfloat16* from) { return load<Vector<WIDE>>(from); }
  static void add(Vector<WIDE>& sum, Vector<WIDE> w, Vector<WIDE> x) {
    sum = (Vector<WIDE>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)x);
  }
};
#endif

template <class Number>
struct Weights {
  using Unit = Singles<Number>;
};
#if defined(__AVX512BF16__)
template <>
struct Weights<bfloat16> {
  using Unit = Pairs;
};
#endif

template <int W>
inline float total(Vector<W> value) {
  if constexpr (W == 4) {
    return (value[0] + value[2]) + (value[1] + value[3]);
  } else {
    float parts[W];
    store<W>(value, parts);
    return total<W / 2>(load<W / 2>(parts) + load<W / 2>(parts + W / 2));
  }
}

template <class Number>
struct Call {
  using Unit = typename Weights<Number>::Unit;
  using Packed = typename Unit::Packed;

  const Number *w, *x;
  Activations<Number> g;
  std::int64_t k, stride;
  std::uint64_t* words;
  std::int32_t* rows;
  Packed* packed;  // [groups of TOKENS, stride / STEP, tokens of the group, STEP]
  float* sums;     // [threads, n, ROWS, WIDE]
  Number* out;

  // ROWS rows, from first to last (exclusive) along k, times N tokens, added to sums: [N, ROWS, WIDE].
  // What is behind the end of a row is `next`, counted from where the row begins.
  template <int N>
  __attribute__((noinline)) void add(const Number* const* row, const Number* const* next, std::int64_t first,
                                     std::int64_t last, std::int64_t token, float* sums) {
    constexpr std::int64_t ahead = AHEAD / sizeof(Number);
    const Packed* tokens = packed + token * stride;
    Vector<WIDE> sum[N][ROWS];
#pragma GCC unroll 16
    for (int i = 0; i < N * ROWS; ++i) sum[i / ROWS][i % ROWS] = load<WIDE>(sums + i * WIDE);
    for (std::int64_t at = first; at < last; at += Unit::STEP) {
      Vector<WIDE> weights[ROWS];
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; ++r) {
        weights[r] = once(Unit::row(row[r] + at));
        __builtin_prefetch((at + ahead < stride ? row : next)[r] + at + ahead);
      }
#pragma GCC unroll 4
      for (int t = 0; t < N; ++t) {
        const Vector<WIDE> numbers = once(Unit::token(tokens + at * N + t * Unit::STEP));
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; ++r) Unit::add(sum[t][r], weights[r], numbers);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < N * ROWS; ++i) store<WIDE>(sum[i / ROWS][i % ROWS], sums + i * WIDE);
  }

  // The rows from a place in the list, which ends at `last`, in stretches that stay in L1 for all tokens.
  void multiply(std::int64_t from, std::int64_t last, float* sums) {
    const std::int64_t stretch = g.n <= TOKENS ? stride : STRETCH;
    const Number *row[ROWS], *next[ROWS];
    for (int r = 0; r < ROWS; ++r) {
      row[r] = w + rows[std::min(from + r, last - 1)] * stride;
      next[r] = w + rows[std::min(from + ROWS + r, last - 1)] * stride - stride;
    }
    std::fill(sums, sums + g.n * ROWS * WIDE, 0.0f);
    for (std::int64_t at = 0; at < stride; at += stretch)
      for (std::int64_t token = 0; token < g.n; token += TOKENS)
        with<TOKENS>(int(std::min<std::int64_t>(TOKENS, g.n - token)), [&](auto tokens) {
          add<tokens>(row, next, at, std::min(stride, at + stretch), token, sums + token * ROWS * WIDE);
        });
    for (std::int64_t token = 0; token < g.n; ++token)
      for (int r = 0; r < std::min<std::int64_t>(ROWS, last - from); ++r) {
        const std::int64_t neuron = rows[from + r];
        const float sum = total<WIDE>(load<WIDE>(sums + (token * ROWS + r) * WIDE));
        Number* to = out + token * g.neurons + neuron;
        if (g.counts(neuron, token)) narrow(widen(g.at(neuron, token)) * sum, to);
      }
  }

  std::int64_t run(std::int64_t threads) {
    std::int64_t found = 0;
#pragma omp parallel num_threads(int(threads))
    {
#pragma omp for schedule(static) nowait
      for (std::int64_t token = 0; token < g.n; ++token) {
        std::fill(out + token * g.neurons, out + (token + 1) * g.neurons, Number{});
        const std::int64_t first = token / TOKENS * TOKENS;
        const std::int64_t group = std::min<std::int64_t>(TOKENS, g.n - first);
        Packed* to = packed + first * stride + (token - first) * Unit::STEP;
        for (std::int64_t at = 0; at < k; at += Unit::STEP)
          for (std::int64_t i = at; i < std::min(k, at + Unit::STEP); ++i)
            to[at * group + i - at] = Unit::pack(x[token * k + i]);
      }
#pragma omp for schedule(static)
      for (std::int64_t word = 0; word < g.words(); ++word) words[word] = g.word(word);
#pragma omp for schedule(static, 1)
      for (std::int64_t share = 0; share < threads; ++share) {
        const std::int64_t all = count(words, g.words());
        const std::int64_t first = all * share / threads, last = all * (share + 1) / threads;
        list(words, first, last, rows);
        for (std::int64_t from = first; from < last; from += ROWS)
          multiply(from, last, sums + share * g.n * ROWS * WIDE);
        if (!share) found = all;
      }
    }
    return found;
  }
};

}  // namespace

#define ACTMM_UP(NAME, NUMBER)                                                                          \
  extern "C" std::int64_t actmm_up_##NAME(const NUMBER* w, const NUMBER* cut, const NUMBER* x,          \
                                          const NUMBER* g, NUMBER* out, std::int64_t m, std::int64_t k, \
                                          std::int64_t n, std::int64_t stride, std::uint64_t* words,    \
                                          std::int32_t* rows, void* packed, float* sums,                \
                                          std::int64_t threads) {                                       \
    const Activations<NUMBER> gates{g, cut, m, n, 1, m};                                                \
    const auto numbers = static_cast<Weights<NUMBER>::Unit::Packed*>(packed);                           \
    return Call<NUMBER>{w, x, gates, k, stride, words, rows, numbers, sums, out}.run(threads);          \
  }

ACTMM_UP(float32, float)
ACTMM_UP(bfloat16, bfloat16)

extern "C" int lanes() { return WIDE; }
extern "C" int rows() { return ROWS; }
