// out[m, n] = a @ b, with a in stretches (suite/formats/groups.py), b stored by columns and out by rows.
//
// A stretch times the same stretch of a column of b: no element is picked on its own. The G partial sums of
// a row are added up at its end. Its values are loaded once for all columns, of which there are few; these
// are packed side by side, stretch by stretch, unless there is just one.

#include <algorithm>
#include <cstdint>

#include "constants.h"
#include "vectors.h"

namespace {

constexpr int REGISTERS = 8;  // sums in flight: two multiply-adds a cycle, each four cycles long
constexpr int AHEAD = 512;    // values that are fetched before their turn: a few hundred nanoseconds
constexpr int FEW = 8;        // columns
constexpr std::int64_t ROWS = 16;  // that a thread takes at a time

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

template <class Column>
struct Stretches {
  const std::int32_t* starts;
  const Column* columns;
  const float* values;
  std::int64_t m, k;
};

// Not inlined: among others of its kind, a compiler would run out of registers.
template <int G, int N, class Column>
__attribute__((noinline)) void multiply(const Stretches<Column>& a, std::int64_t first, std::int64_t last,
                                        const float* b, float* out) {
  constexpr int W = std::min(G, WIDE);
  constexpr int SETS = std::max(1, REGISTERS / N);  // none waits for the one before
  for (std::int64_t row = first; row < last; ++row) {
    Vector<W> sum[SETS][N] = {};
    std::int32_t at = a.starts[row];
    const std::int32_t end = a.starts[row + 1];
    const auto add = [&](int set) {
      const float* value = a.values + std::int64_t(at + set) * G;
      const float* from = b + std::int64_t(a.columns[at + set]) * (N * G);
      __builtin_prefetch(value + AHEAD);
      for (int g = 0; g < G; g += W) {
        const Vector<W> weights = load<W>(value + g);
        for (int j = 0; j < N; ++j) sum[set][j] += weights * load<W>(from + j * G + g);
      }
    };
    for (; at + SETS <= end; at += SETS)
      for (int set = 0; set < SETS; ++set) add(set);
    if (SETS > 1)
      for (; at < end; ++at) add(0);
#pragma GCC unroll 8  // or the sums would have to be in memory, to be counted through
    for (int j = 0; j < N; ++j) {
      for (int set = 1; set < SETS; ++set) sum[0][j] += sum[set][j];
      out[row * N + j] = total<W>(sum[0][j]);
    }
  }
}

template <int G, class Column>
void spmm(const Stretches<Column>& a, const float* b, float* out, std::int64_t n, float* packed,
          int threads) {
  const bool as_is = n == 1 && a.k % G == 0;
#pragma omp parallel num_threads(threads)
  {
    if (!as_is) {
#pragma omp for schedule(static)
      for (std::int64_t row = 0; row < a.k; row += G)
        for (std::int64_t j = 0; j < n; ++j)
          for (std::int64_t g = 0; g < G; ++g)
            packed[row * n + j * G + g] = row + g < a.k ? b[j * a.k + row + g] : 0;
    }
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t first = 0; first < a.m; first += ROWS)
      with<FEW>(int(n), [&](auto columns) {
        multiply<G, columns>(a, first, std::min(a.m, first + ROWS), as_is ? b : packed, out);
      });
  }
}

}  // namespace

#define SPMM(COLUMN, WIDTH)                                                                                \
  extern "C" void spmm_##COLUMN##_##WIDTH(const std::int32_t* starts, const COLUMN##_t* columns,           \
                                          const float* values, const float* b, float* out,                 \
                                          std::int64_t m, std::int64_t k, std::int64_t n,                  \
                                          float* packed, int threads) {                                    \
    spmm<WIDTH>(Stretches<COLUMN##_t>{starts, columns, values, m, k}, b, out, n, packed, threads);         \
  }
#define COLUMNS(WIDTH) SPMM(uint16, WIDTH) SPMM(int32, WIDTH)

COLUMNS(4)
COLUMNS(8)
COLUMNS(16)

extern "C" int lanes() { return WIDE; }
