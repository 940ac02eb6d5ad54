// out[m, n] = a @ b, with a in strips of four rows sorted by masks (suite/formats/groups.py) and b, out
// row-major.
//
// A mask says which rows of a strip have a nonzero. Each has a loop of its own, which loads a row of b once
// for all of them. The sums of the four rows stay in registers as long as the tile lasts, and in `partial`
// between tiles.

#include <algorithm>
#include <cstdint>

#include "constants.h"
#include "threads.h"
#include "vectors.h"

namespace {

#if defined(__AVX512F__)
constexpr int MOST_VECTORS = 5;
constexpr int REGISTERS = 8;  // sums in flight: two multiply-adds a cycle, each four cycles long
#else
constexpr int MOST_VECTORS = 2;  // of sixteen registers, twelve take sums
constexpr int REGISTERS = 5;
#endif
constexpr int ROWS = 4;
constexpr int LEAST = 8;    // columns, and floats of a register for as few
constexpr int AHEAD = 512;  // values that are fetched before their turn: a few hundred nanoseconds

template <class Column>
struct Masks {
  const std::int32_t* column_starts;
  const std::int32_t* value_starts;
  const std::uint16_t* counts;
  const Column* columns;
  const float* values;
  std::int64_t m, k, depth, tiles;
  std::int64_t strips() const { return (m + ROWS - 1) / ROWS; }
};

// How n columns are cut: into panels of as equal a number of registers as can be. The last register ends
// with the last column, so that it may meet some that the one before has met: nothing is padded.
struct Cut {
  int lanes;  // of a register
  int vectors, panels;

  explicit Cut(std::int64_t n) : lanes(n < WIDE ? std::min(LEAST, WIDE) : WIDE) {
    vectors = int((n + lanes - 1) / lanes);
    panels = (vectors + MOST_VECTORS - 1) / MOST_VECTORS;
  }
  bool is_packed(std::int64_t n) const { return panels == 1 && n % lanes == 0; }
  int first(int panel) const { return int(std::int64_t(vectors) * panel / panels); }
};

template <class Number>
struct Panel {
  const float* b;
  std::int64_t stride;  // of b
  Number* out;
  std::int64_t n;
  int last, last_out;  // where the last register begins, in b and in out
};

// Columns of b, register after register, so that each begins where a cache line does.
template <int W, class Number>
void pack(const Number* b, std::int64_t k, std::int64_t n, int vectors, int last, float* to) {
  for (std::int64_t row = 0; row < k; ++row, b += n)
    for (int v = 0; v < vectors; ++v, to += W) store<W>(load<W>(b + (v + 1 < vectors ? v * W : last)), to);
}

// Inlined, all fifteen, or the sums would have to be in memory, to be handed on.
template <int MASK, int W, int V, class Column>
__attribute__((always_inline)) inline void add(Vector<W> (&sum)[ROWS][V], const std::uint16_t* counts,
                                               const Column*& column, const float*& value,
                                               const float* slice, std::int64_t stride, int last) {
  constexpr int HIT = __builtin_popcount(MASK);
  const Column* end = column + counts[MASK - 1];
  const auto meet = [&](Vector<W>(&sum)[ROWS][V], const Column* column,
                        const float* value) __attribute__((always_inline)) {
    const float* from = slice + std::int64_t(*column) * stride;
    __builtin_prefetch(value + AHEAD);
    Vector<W> b[V];
    for (int v = 0; v < V; ++v) b[v] = once(load<W>(from + (v + 1 < V ? v * W : last)));
    for (int row = 0, at = 0; row < ROWS; ++row) {
      if (!(MASK >> row & 1)) continue;
      const Vector<W> weight = once(value[at++] - Vector<W>{});
      for (int v = 0; v < V; ++v) sum[row][v] += weight * b[v];
    }
  };
  if constexpr (HIT * V < REGISTERS) {  // two take turns, so that none waits for the one before
    Vector<W> other[ROWS][V] = {};
    for (; column + 2 <= end; column += 2, value += 2 * HIT) {
      meet(sum, column, value);
      meet(other, column + 1, value + HIT);
    }
    for (int row = 0; row < ROWS; ++row)
      for (int v = 0; v < V; ++v)
        if (MASK >> row & 1) sum[row][v] += other[row][v];
  }
  for (; column < end; ++column, value += HIT) meet(sum, column, value);
  if constexpr (MASK + 1 < 1 << ROWS)
    add<MASK + 1, W, V>(sum, counts, column, value, slice, stride, last);
}

// Not inlined: among others of its kind, a compiler would run out of registers.
template <int W, int V, class Number, class Column>
__attribute__((noinline)) void multiply(const Masks<Column>& a, std::int64_t first, std::int64_t last,
                                        const Panel<Number>& panel, float* partial) {
  for (std::int64_t tile = 0; tile < a.tiles; ++tile) {
    const float* slice = panel.b + tile * a.depth * panel.stride;
    for (std::int64_t strip = first; strip < last; ++strip) {
      const std::int64_t segment = tile * a.strips() + strip;
      Vector<W> sum[ROWS][V] = {};
      float* kept = partial + (strip - first) * ROWS * V * W;
      if (tile)
        for (int row = 0; row < ROWS; ++row)
          for (int v = 0; v < V; ++v) sum[row][v] = load<W>(kept + (row * V + v) * W);
      const Column* column = a.columns + a.column_starts[segment];
      const float* value = a.values + a.value_starts[segment];
      const std::uint16_t* counts = a.counts + segment * ((1 << ROWS) - 1);
      add<1, W, V>(sum, counts, column, value, slice, panel.stride, panel.last);
      if (tile + 1 < a.tiles) {
        for (int row = 0; row < ROWS; ++row)
          for (int v = 0; v < V; ++v) store<W>(sum[row][v], kept + (row * V + v) * W);
        continue;
      }
#pragma GCC unroll 4  // or the sums would have to be in memory, to be counted through
      for (int row = 0; row < ROWS; ++row) {
        if (strip * ROWS + row >= a.m) break;
        Number* out = panel.out + (strip * ROWS + row) * panel.n;
        for (int v = 0; v < V; ++v) store<W>(sum[row][v], out + (v + 1 < V ? v * W : panel.last_out));
      }
    }
  }
}

template <class Number, class Column>
void spmm(const Masks<Column>& a, const Number* b, Number* out, std::int64_t n, const std::int64_t* chunks,
          std::int64_t chunk_count, bool in_place, float* packed, float* partial,
          std::int64_t partial_floats, int threads) {
  const Cut cut(n);
  const auto column_of = [&](int panel) {
    return panel < cut.panels ? std::int64_t(cut.first(panel)) * cut.lanes : n;
  };
#pragma omp parallel num_threads(threads)
  {
    const std::int64_t thread = thread_number();
    float* mine = packed + thread * a.k * MOST_VECTORS * WIDE;
    int packed_panel = -1;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t unit = 0; unit < cut.panels * chunk_count; ++unit) {
      const int at = int(unit / chunk_count), vectors = cut.first(at + 1) - cut.first(at);
      const std::int64_t chunk = unit % chunk_count, column = column_of(at), stride = vectors * cut.lanes;
      const int last = int(column_of(at + 1) - column) - cut.lanes, last_packed = int(stride) - cut.lanes;
      if (!in_place && at != packed_panel) {
        const auto by_register = cut.lanes == WIDE ? pack<WIDE, Number> : pack<LEAST, Number>;
        by_register(b + column, a.k, n, vectors, last, mine);
        packed_panel = at;
      }
      const float* there = reinterpret_cast<const float*>(b) + column;
      Number* to = out + column;
      const Panel<Number> panel =
          in_place ? Panel<Number>{there, n, to, n, last, last}
                   : Panel<Number>{mine, stride, to, n, last_packed, last};
      float* own = partial + thread * partial_floats;
      if (cut.lanes == WIDE)
        with<MOST_VECTORS>(vectors, [&](auto v) {
          multiply<WIDE, v>(a, chunks[chunk], chunks[chunk + 1], panel, own);
        });
      else if constexpr (WIDE > LEAST)
        with<WIDE / LEAST>(vectors, [&](auto v) {
          multiply<LEAST, v>(a, chunks[chunk], chunks[chunk + 1], panel, own);
        });
    }
  }
}

}  // namespace

#define SPMM(NUMBER, COLUMN)                                                                               \
  extern "C" void spmm_##NUMBER##_##COLUMN(                                                                \
      const std::int32_t* column_starts, const std::int32_t* value_starts, const std::uint16_t* counts,    \
      const COLUMN##_t* columns, const float* values, const NUMBER* b, NUMBER* out, std::int64_t m,        \
      std::int64_t k, std::int64_t n, std::int64_t depth, std::int64_t tiles,                              \
      const std::int64_t* chunks, std::int64_t chunk_count, int in_place, float* packed,                   \
      float* partial, std::int64_t partial_floats, int threads) {                                          \
    spmm(Masks<COLUMN##_t>{column_starts, value_starts, counts, columns, values, m, k, depth, tiles},      \
         b, out, n, chunks, chunk_count, in_place, packed, partial, partial_floats, threads);              \
  }

SPMM(float, uint16)
SPMM(float, int32)
SPMM(bfloat16, uint16)
SPMM(bfloat16, int32)

extern "C" int lanes() { return WIDE; }

// Columns at a time; whether b is as good as packed; columns computed for n, those that two registers meet
// counted twice.
extern "C" int widest_panel() { return MOST_VECTORS * WIDE; }
extern "C" int is_packed(std::int64_t n) { return Cut(n).is_packed(n); }
extern "C" std::int64_t computed(std::int64_t n) {
  const Cut cut(n);
  return std::int64_t(cut.vectors) * cut.lanes;
}
