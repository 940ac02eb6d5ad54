// out[n, m] = (w @ x)^T over the neurons that count, with w stored by neurons: [k, stride], whole lines.
//
// Each thread adds up the rows of its share of the neurons that count, in sums of its own, and these are
// added up at the end. A group of rows is read side by side. What comes next, of these rows or of the next
// ones, is fetched ahead: where rows are skipped, the hardware's own prefetching does not know.

#include <algorithm>
#include <cstdint>

#include "bfloat16.h"
#include "live.h"
#include "vectors.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

constexpr int ALONE = 4, TOGETHER = WIDE == 16 ? 16 : 8;  // rows of a group: for one token, for several
constexpr std::int64_t AHEAD = 1 << 10;                   // bytes of a row
constexpr std::int64_t NEAR = 128 << 10;                  // bytes of sums that stay in L2
constexpr int FOUR = 4;                                   // outputs that stay side by side in sums

// Weights of one neuron times a float.
template <class Number>
struct Single {
  static constexpr int NEURONS = 1;
  float value;

  static Single of(const float* x) { return {x[0]}; }
  static void load_rows(const Number* const* rows, std::int64_t at, Vector<WIDE>* w) {
    w[0] = load<WIDE>(rows[0] + at);
  }
  static void add(Vector<WIDE>& sum, Vector<WIDE> w, Single x) { sum += w * x.value; }
  static std::int64_t place(std::int64_t output) { return output; }
};

#if defined(__AVX512BF16__)
// Weights of two neurons side by side, times as many activations.
struct Pair {
  static constexpr int NEURONS = 2;
  std::uint32_t both;

  static Pair of(const float* x) {
    bfloat16 first, second;
    narrow(x[0], &first);
    narrow(x[1], &second);
    return {std::uint32_t(second.bits) << 16 | first.bits};
  }
  static void load_rows(const bfloat16* const* rows, std::int64_t at, Vector<WIDE>* w) {
    const __m512i first = _mm512_loadu_si512(rows[0] + at), second = _mm512_loadu_si512(rows[1] + at);
    w[0] = (Vector<WIDE>)_mm512_unpacklo_epi16(first, second);
    w[1] = (Vector<WIDE>)_mm512_unpackhi_epi16(first, second);
  }
  static void add(Vector<WIDE>& sum, Vector<WIDE> w, Pair x) {
    sum = (Vector<WIDE>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)_mm512_set1_epi32(int(x.both)));
  }
  // Fours of outputs go to the first and the second register in turn.
  static std::int64_t place(std::int64_t output) {
    const std::int64_t four = output / FOUR;
    return four % 2 * WIDE + four / 2 * FOUR;
  }
};
#endif

template <class Number>
struct Weights {
  using Unit = Single<Number>;
};
#if defined(__AVX512BF16__)
template <>
struct Weights<bfloat16> {
  using Unit = Pair;
};
#endif

template <class Number, int GROUP>
struct Call {
  using Unit = typename Weights<Number>::Unit;
  static constexpr int UNITS = GROUP / Unit::NEURONS, STEP = WIDE * Unit::NEURONS;

  const Number* w;
  Activations<Number> x;
  std::int64_t m, stride;
  std::uint64_t* words;
  std::int32_t* neurons;
  Unit* packed;  // [groups, n, UNITS]
  float* sums;   // [threads, stride / STEP, n, STEP]

  // The activations of a group, 0 where they do not count and beyond the last neuron.
  void pack(std::int64_t group, std::int64_t found) {
    for (std::int64_t at = std::max(found - group, std::int64_t(1)); at < GROUP; ++at)
      neurons[group + at] = neurons[group];
    for (std::int64_t token = 0; token < x.n; ++token) {
      float values[GROUP];
      for (int at = 0; at < GROUP; ++at) {
        const std::int64_t neuron = neurons[group + at];
        values[at] = group + at < found && x.counts(neuron, token) ? widen(x.at(neuron, token)) : 0;
      }
      Unit* to = packed + (group / GROUP * x.n + token) * UNITS;
      for (int unit = 0; unit < UNITS; ++unit) to[unit] = Unit::of(values + unit * Unit::NEURONS);
    }
  }

  // Adds a group's rows, from first to last (exclusive), to the sums of all tokens.
  void add(const Unit* unit, const Number* const* rows, const Number* const* next, std::int64_t first,
           std::int64_t last, float* sum) {
    constexpr std::int64_t ahead = AHEAD / sizeof(Number);
    const std::int64_t tokens = GROUP == ALONE ? 1 : x.n;
    for (std::int64_t at = first; at < last; at += STEP) {
      Vector<WIDE> weight[UNITS][Unit::NEURONS];
#pragma GCC unroll 16
      for (int u = 0; u < UNITS; ++u) Unit::load_rows(rows + u * Unit::NEURONS, at, weight[u]);
#pragma GCC unroll 16
      for (int r = 0; r < GROUP; ++r)
        __builtin_prefetch((at + ahead < last ? rows : next)[r] + at + ahead);
      for (std::int64_t token = 0; token < tokens; ++token) {
        float* to = sum + at * tokens + token * STEP;
#pragma GCC unroll 2
        for (int v = 0; v < Unit::NEURONS; ++v) {
          Vector<WIDE> held = load<WIDE>(to + v * WIDE);
#pragma GCC unroll 16
          for (int u = 0; u < UNITS; ++u) Unit::add(held, weight[u][v], unit[token * UNITS + u]);
          store<WIDE>(held, to + v * WIDE);
        }
      }
    }
  }

  void multiply(std::int64_t first, std::int64_t last, float* sum) {
    const std::int64_t near = std::max<std::int64_t>(NEAR / 4 / x.n / 256 * 256, 256);
    for (std::int64_t left = 0; left < stride; left += near) {
      const std::int64_t right = std::min(stride, left + near);
      std::fill(sum + left * x.n, sum + right * x.n, 0.0f);
      for (std::int64_t group = first; group < last; group += GROUP) {
        const Number *rows[GROUP], *next[GROUP];
        const std::int64_t then = group + GROUP < last ? group + GROUP : group;
        for (int r = 0; r < GROUP; ++r) rows[r] = w + neurons[group + r] * stride;
        for (int r = 0; r < GROUP; ++r) next[r] = w + neurons[then + r] * stride - (right - left);
        add(packed + group / GROUP * x.n * UNITS, rows, next, left, right, sum);
      }
    }
  }

  std::int64_t run(Number* out, std::int64_t threads) {
    std::int64_t found = 0;
#pragma omp parallel num_threads(int(threads))
    {
#pragma omp for schedule(static)
      for (std::int64_t word = 0; word < x.words(); ++word) words[word] = x.word(word);
#pragma omp for schedule(static, 1)
      for (std::int64_t share = 0; share < threads; ++share) {
        const std::int64_t all = count(words, x.words()), groups = (all + GROUP - 1) / GROUP;
        const std::int64_t first = groups * share / threads * GROUP;
        const std::int64_t last = groups * (share + 1) / threads * GROUP;
        list(words, first, std::min(last, all), neurons);
        for (std::int64_t group = first; group < last; group += GROUP) pack(group, all);
        multiply(first, last, sums + share * x.n * stride);
        if (!share) found = all;
      }
#pragma omp for schedule(static) collapse(2)
      for (std::int64_t token = 0; token < x.n; ++token)
        for (std::int64_t output = 0; output < m; output += FOUR) {
          const float* from =
              sums + output / STEP * STEP * x.n + token * STEP + Unit::place(output % STEP);
          Vector<FOUR> sum = load<FOUR>(from);
          for (std::int64_t share = 1; share < threads; ++share)
            sum += load<FOUR>(from + share * x.n * stride);
          Number* to = out + token * m + output;
          if (output + FOUR <= m)
            store<FOUR>(sum, to);
          else
            for (std::int64_t at = 0; at < m - output; ++at) narrow(sum[at], to + at);
        }
    }
    return found;
  }
};

}  // namespace

#define ACTMM(NAME, NUMBER)                                                                                 \
  extern "C" std::int64_t actmm_##NAME(const NUMBER* w, const NUMBER* cut, const NUMBER* x, NUMBER* out,    \
                                       std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t stride, \
                                       std::uint64_t* words, std::int32_t* neurons, void* packed,           \
                                       float* sums, std::int64_t threads) {                                 \
    const Activations<NUMBER> activations{x, cut, k, n, n, 1};                                              \
    const auto units = static_cast<Weights<NUMBER>::Unit*>(packed);                                         \
    if (n == 1)                                                                                             \
      return Call<NUMBER, ALONE>{w, activations, m, stride, words, neurons, units, sums}.run(out, threads); \
    return Call<NUMBER, TOGETHER>{w, activations, m, stride, words, neurons, units, sums}.run(out, threads); \
  }

ACTMM(float32, float)
ACTMM(bfloat16, bfloat16)

extern "C" int group(int n) { return n == 1 ? ALONE : TOGETHER; }
extern "C" int lanes() { return WIDE; }
