// out[h, n, d] = softmax(q k^T / sqrt(d)) v over the blocks that a mask keeps, on registers.
//
// ROWS keys, or numbers of a value, times a panel of queries are summed in registers. A number of k or v is
// spread over the lanes from memory, so k stays as it is; so does v, unless keys are multiplied in pairs.

#include <algorithm>
#include <cstdint>

#include "attention_panels.h"

namespace {

#if defined(__AVX512F__)
constexpr int COLUMNS = 4, SUMS = 16;
#else
constexpr int COLUMNS = 2, SUMS = 8;
#endif

inline void add(Vector<WIDE>& sum, Single a, Vector<WIDE> b) { sum += a.value * b; }

#if defined(__AVX512BF16__)
using Half = Pair;

inline void add(Vector<16>& sum, Pair a, Vector<16> b) {
  sum = (Vector<16>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(a.both), (__m512bh)b);
}
#else
using Half = Single;
#endif

constexpr std::int64_t ADDENDS = 64;  // of a score that are summed in one go: rounding grows with it

template <class U, class Number>
struct Registers {
  using Unit = U;
  static constexpr int LANES = WIDE, MOST = COLUMNS;
  static constexpr bool PACKS_KEYS = sizeof(Number) * Unit::NUMBERS != sizeof(Unit);
  static constexpr bool PACKS_VALUES = sizeof(Number) != sizeof(Unit);

  static std::int64_t units(std::int64_t d) { return d / Unit::NUMBERS; }
  static std::int64_t width(std::int64_t block) { return std::min<std::int64_t>(block, MOST * LANES); }
  static void begin() {}
  static void end() {}

  static void pack_keys(const Number* k, std::int64_t keys, std::int64_t d, Unit* to) {
    for (std::int64_t i = 0; i < keys * d; ++i) to[i].value = widen(k[i]);
  }

  // [keys, d]; in pairs, those of two keys.
  static void pack_values(const Number* v, std::int64_t keys, std::int64_t d, Unit* to) {
    if constexpr (Unit::NUMBERS == 1)
      pack_keys(v, keys, d, to);
    else
      for (std::int64_t pair = 0; pair < keys / 2; ++pair, v += 2 * d, to += d)
        for (std::int64_t i = 0; i < d; ++i) to[i] = pair_of(v[i], v[d + i]);
  }

  // Of a panel's queries with so many keys.
  template <int V>
  __attribute__((noinline)) static void score(const Panel<Registers>& panel, const Unit* k, std::int64_t keys,
                                              float* to) {
    constexpr int ROWS = SUMS / V;
    const std::int64_t units = panel.units;
    for (std::int64_t key = 0; key < keys; key += ROWS, k += ROWS * units, to += ROWS * LANES)
      for (std::int64_t from = 0; from < units; from += ADDENDS) {
        Vector<LANES> sum[ROWS][V] = {};
        const Unit* q = panel.queries + from * LANES;
        for (std::int64_t unit = from; unit < std::min(from + ADDENDS, units); ++unit, q += LANES) {
          Vector<LANES> query[V];
          for (int v = 0; v < V; ++v) query[v] = once(load<Vector<LANES>>(q + v * panel.queries_apart));
          for (int r = 0; r < ROWS; ++r)
            for (int v = 0; v < V; ++v) add(sum[r][v], k[r * units + unit], query[v]);
        }
        for (int r = 0; r < ROWS; ++r)
          for (int v = 0; v < V; ++v) {
            float* at = to + v * panel.SCORES + r * LANES;
            store<LANES>(from ? sum[r][v] + load<LANES>(at) : sum[r][v], at);
          }
      }
  }

  // Values by their weights, to the sums.
  template <int V>
  __attribute__((noinline)) static void add_values(const Panel<Registers>& panel, const Seen<Unit>* seen,
                                                   int count) {
    constexpr int ROWS = SUMS / V;
    for (std::int64_t first = 0; first < panel.d; first += ROWS) {
      Vector<LANES> sum[ROWS][V] = {};
      const Unit* weights = panel.weights(0);
      for (int at = 0; at < count; ++at) {
        const Unit* value = seen[at].values + first;
        for (std::int64_t unit = 0; unit < seen[at].units; ++unit, weights += LANES, value += panel.d) {
          Vector<LANES> weight[V];
          for (int v = 0; v < V; ++v) weight[v] = once(load<Vector<LANES>>(weights + v * panel.SCORES));
          for (int r = 0; r < ROWS; ++r)
            for (int v = 0; v < V; ++v) add(sum[r][v], value[r], weight[v]);
        }
      }
      for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < V; ++v) {
          float* before = panel.sums + v * panel.sums_apart + (first + r) * LANES;
          store<LANES>(load<LANES>(before) * panel.factor[v] + sum[r][v], before);
        }
    }
  }
};

using Singles = Registers<Single, float>;
using Halves = Registers<Half, bfloat16>;

}  // namespace

extern "C" void attention_float32(const Plan* plan, const float* q, const float* k, const float* v,
                                  float* out) {
  attend<Singles>(*plan, q, k, v, out);
}

extern "C" void attention_bfloat16(const Plan* plan, const bfloat16* q, const bfloat16* k, const bfloat16* v,
                                   bfloat16* out) {
  attend<Halves>(*plan, q, k, v, out);
}

extern "C" void sizes(const Plan* plan, int bfloat16s, Sizes* to) {
  *to = bfloat16s ? sizes<Halves>(*plan) : sizes<Singles>(*plan);
}
