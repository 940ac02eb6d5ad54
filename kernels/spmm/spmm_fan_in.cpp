// out[m, n] = a @ b, with a condensed (suite/formats/condensed.py), b and out row-major.
//
// b is packed in panels of some columns. Slots of a row ascend, and rows are equally long: what so many
// slots of all rows meet is near the same place of a panel, without a table that says where a tile begins.

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "constants.h"
#include "fours.h"
#include "threads.h"
#include "vectors.h"

namespace {

constexpr int PANEL = 64;     // columns
constexpr int REGISTERS = 8;  // sums in flight: two multiply-adds a cycle, each four cycles long
constexpr int AHEAD = 1024;   // nonzeros: the tables come from far away, and once
constexpr int CHAINS = 2;     // of one column, where putting numbers together takes longer than adding

template <class Column>
struct Condensed {
  const float* values;
  const Column* columns;
  std::int64_t m, k, fan_in;
};

template <class Column>
inline Vector<WIDE> gather(const float* x, const Column* columns) {
#if defined(__AVX512F__)
  const __m256 low = _mm256_set_m128((__m128)pick_four(x, columns + 4), (__m128)pick_four(x, columns));
  const __m256 high = _mm256_set_m128((__m128)pick_four(x, columns + 12), (__m128)pick_four(x, columns + 8));
  return (Vector<16>)_mm512_insertf64x4(_mm512_castpd256_pd512((__m256d)low), (__m256d)high, 1);
#elif defined(__AVX__)
  return (Vector<8>)_mm256_set_m128((__m128)pick_four(x, columns + 4), (__m128)pick_four(x, columns));
#else
  return pick_four(x, columns);
#endif
}

// One column: a register has the values of one slot of WIDE rows, so that nothing is summed across lanes.
template <class Column>
void one_column(const Condensed<Column>& a, const float* x, float* out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t first = 0; first < a.m; first += WIDE) {
    const float* values = a.values + first * a.fan_in;
    const Column* columns = a.columns + first * a.fan_in;
    Vector<WIDE> sum[CHAINS] = {};
    std::int64_t slot = 0;
    for (; slot + CHAINS <= a.fan_in; slot += CHAINS)
      for (int s = 0; s < CHAINS; ++s) {
        __builtin_prefetch(values + (slot + s) * WIDE + AHEAD);
        __builtin_prefetch(columns + (slot + s) * WIDE + AHEAD);
        sum[s] += load<WIDE>(values + (slot + s) * WIDE) * gather(x, columns + (slot + s) * WIDE);
      }
    for (; slot < a.fan_in; ++slot)
      sum[0] += load<WIDE>(values + slot * WIDE) * gather(x, columns + slot * WIDE);
    for (int s = 1; s < CHAINS; ++s) sum[0] += sum[s];
    float all[WIDE];
    store<WIDE>(sum[0], all);
    std::memcpy(out + first, all, std::min<std::int64_t>(WIDE, a.m - first) * sizeof(float));
  }
}

// Some rows times one panel, some slots at a time. SETS of sums take turns, so that none waits for another.
template <int W, int V, class Column>
__attribute__((noinline)) void multiply(const Condensed<Column>& a, std::int64_t first, std::int64_t last,
                                        std::int64_t tile, const float* panel, float* partial, float* out,
                                        std::int64_t n, int width) {
  constexpr int STRIDE = W * V, SETS = std::max(1, REGISTERS / V);
  std::fill(partial, partial + (last - first) * STRIDE, 0.0f);
  for (std::int64_t slot = 0; slot < a.fan_in; slot += tile)
    for (std::int64_t row = first; row < last; ++row) {
      const float* values = a.values + row * a.fan_in;
      const Column* columns = a.columns + row * a.fan_in;
      float* kept = partial + (row - first) * STRIDE;
      Vector<W> sum[SETS][V] = {};
      for (int v = 0; v < V; ++v) sum[0][v] = load<W>(kept + v * W);
      const std::int64_t end = std::min(slot + tile, a.fan_in);
      std::int64_t at = slot;
      for (; at + SETS <= end; at += SETS) {
        __builtin_prefetch(values + at + AHEAD);
        __builtin_prefetch(columns + at + AHEAD);
        for (int s = 0; s < SETS; ++s)
          for (int v = 0; v < V; ++v)
            sum[s][v] += values[at + s] * load<W>(panel + std::int64_t(columns[at + s]) * STRIDE + v * W);
      }
      for (; at < end; ++at)
        for (int v = 0; v < V; ++v)
          sum[0][v] += values[at] * load<W>(panel + std::int64_t(columns[at]) * STRIDE + v * W);
      for (int s = 1; s < SETS; ++s)
        for (int v = 0; v < V; ++v) sum[0][v] += sum[s][v];
      for (int v = 0; v < V; ++v) store<W>(sum[0][v], kept + v * W);
    }
  for (std::int64_t row = first; row < last; ++row)
    for (int j = 0; j < width; ++j) out[row * n + j] = partial[(row - first) * STRIDE + j];
}

// Floats that a row of a panel of this width takes, padding included.
int stride_of(int width) {
  for (int lanes = 4; lanes < WIDE; lanes *= 2)
    if (width <= lanes) return lanes;
  return (width + WIDE - 1) / WIDE * WIDE;
}

template <class Column>
void dispatch(const Condensed<Column>& a, std::int64_t first, std::int64_t last, std::int64_t tile,
              const float* panel, float* partial, float* out, std::int64_t n, int width) {
  const int stride = stride_of(width);
  if (stride == 4 && WIDE > 4)
    multiply<4, 1>(a, first, last, tile, panel, partial, out, n, width);
  else if (stride == 8 && WIDE > 8)
    multiply<8, 1>(a, first, last, tile, panel, partial, out, n, width);
  else
    with<PANEL / WIDE>(stride / WIDE, [&](auto v) {
      multiply<WIDE, v>(a, first, last, tile, panel, partial, out, n, width);
    });
}

void pack(const float* row, std::int64_t at, std::int64_t k, std::int64_t n, float* packed) {
  for (std::int64_t column = 0; column < n; column += PANEL) {
    const int width = int(std::min<std::int64_t>(PANEL, n - column)), stride = stride_of(width);
    float* to = packed + column * k + at * stride;
    std::memcpy(to, row + column, width * sizeof(float));
    std::fill(to + width, to + stride, 0.0f);
  }
}

template <class Column>
void spmm(const Condensed<Column>& a, const float* b, float* out, std::int64_t n, std::int64_t tile,
          std::int64_t chunk, float* packed, float* partial, int threads) {
  if (n == 1) return one_column(a, b, out, threads);
  const std::int64_t panels = (n + PANEL - 1) / PANEL, chunks = (a.m + chunk - 1) / chunk;
  const float* source = n <= PANEL && stride_of(int(n)) == n ? b : packed;  // b is a panel already
#pragma omp parallel num_threads(threads)
  {
    if (source == packed) {
#pragma omp for schedule(static)
      for (std::int64_t row = 0; row < a.k; ++row) pack(b + row * n, row, a.k, n, packed);
    }
    float* own = partial + thread_number() * chunk * PANEL;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t unit = 0; unit < panels * chunks; ++unit) {
      const std::int64_t column = unit / chunks * PANEL, first = unit % chunks * chunk;
      const int width = int(std::min<std::int64_t>(PANEL, n - column));
      dispatch(a, first, std::min(a.m, first + chunk), tile, source + column * a.k, own, out + column, n,
               width);
    }
  }
}

}  // namespace

#define SPMM(NAME, COLUMN)                                                                             \
  extern "C" void NAME(const float* values, const COLUMN* columns, const float* b, float* out,         \
                       std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t fan_in,            \
                       std::int64_t tile, std::int64_t chunk, float* packed, float* partial,           \
                       int threads) {                                                                  \
    const Condensed<COLUMN> a{values, columns, m, k, fan_in};                                          \
    spmm(a, b, out, n, tile, chunk, packed, partial, threads);                                         \
  }

SPMM(spmm_uint16, std::uint16_t)
SPMM(spmm_int32, std::int32_t)

extern "C" int lanes() { return WIDE; }
extern "C" int stride(int width) { return stride_of(width); }
