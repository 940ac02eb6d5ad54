// out[m, n] = a @ b, with a in strips (suite/formats/groups.py) and b, out row-major.
//
// A strip is H rows of a. Each of its groups loads a row of b once, V registers of it, for H rows of sums,
// which stay in registers as long as the tile lasts, and in `partial` between tiles. A column left over by
// the registers is summed the other way round, H rows in one register: of few columns, each.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "constants.h"
#include "threads.h"
#include "vectors.h"

namespace {

constexpr int LEAST = 8;  // columns that are worth registers of their own, and floats of such a register
constexpr int TALLEST = WIDE == 16 ? 8 : 4;
constexpr int AHEAD = 512;  // values that are fetched before their turn: a few hundred nanoseconds
constexpr int REGISTERS = 8;  // sums in flight: two multiply-adds a cycle, each four cycles long

// Registers of columns at a time: sums, a row of b and a value fit the 32 of AVX-512, or the 16 of others.
constexpr int most_vectors(int height) {
  return WIDE == 16 ? (height == 8 ? 3 : height == 4 ? 5 : 6) : (height == 4 ? 2 : 4);
}

// Floats of a packed row, with a single column that begins where a register does.
constexpr int widest_row(int height) { return (most_vectors(height) + 1) * WIDE; }

template <class Column>
struct Strips {
  const std::int32_t* starts;
  const Column* columns;
  const float* values;
  const std::int32_t* rows;
  std::int64_t strips, k, depth, tiles;
};

// How n columns are cut: into panels of as equal a number of registers as can be. The last register ends
// with the last column, so that it may meet some that the one before has met: nothing is padded. One column
// left over, and columns that are few, are summed singly.
struct Cut {
  int lanes;  // of a register
  int vectors, singles, panels;

  Cut(std::int64_t n, int most) : lanes(n < WIDE ? std::min(LEAST, WIDE) : WIDE) {
    singles = n < LEAST ? int(n) : n % lanes == 1;
    vectors = int((n - singles + lanes - 1) / lanes);
    panels = std::max(1, (vectors + most - 1) / most);
  }
  bool is_packed(std::int64_t n) const { return !vectors || (panels == 1 && n % lanes == 0); }
  int first(int panel) const { return int(std::int64_t(vectors) * panel / panels); }
};

template <class Number>
struct Panel {
  const float* b;
  std::int64_t stride;  // of b
  Number* out;
  std::int64_t n;
  int last, last_out;      // where the last register begins, in b and in out
  int singles, singles_out;  // and where the single columns do
};

// Columns of b, register after register, so that each begins where a cache line does.
template <int W, class Number>
void pack(const Number* b, std::int64_t k, std::int64_t n, int vectors, int last, int singles, float* to) {
  for (std::int64_t row = 0; row < k; ++row, b += n) {
    for (int v = 0; v < vectors; ++v, to += W) store<W>(load<W>(b + (v + 1 < vectors ? v * W : last)), to);
    for (int s = 0; s < singles; ++s) to[s] = widen(b[last + W + s]);
    to += singles && vectors ? W : singles;
  }
}

// Not inlined: among others of its kind, a compiler would run out of registers.
template <int W, int H, int V, int SINGLES, class Number, class Column>
__attribute__((noinline)) void multiply(const Strips<Column>& a, std::int64_t first, std::int64_t last,
                                        const Panel<Number>& panel, float* partial) {
  constexpr int FLYING = V ? H * V : SINGLES;
  constexpr int SETS = std::max(1, REGISTERS / FLYING);  // none waits for the one before
  constexpr int KEPT = H * (V * W + SINGLES);
  for (std::int64_t tile = 0; tile < a.tiles; ++tile) {
    const std::int32_t* starts = a.starts + tile * a.strips;
    const float* slice = panel.b + tile * a.depth * panel.stride;
    for (std::int64_t strip = first; strip < last; ++strip) {
      Vector<W> sum[SETS][H][std::max(V, 1)] = {};
      Vector<H> single[SETS][std::max(SINGLES, 1)] = {};
      float* kept = partial + (strip - first) * KEPT;
      if (tile) {
        for (int h = 0; h < H; ++h)
          for (int v = 0; v < V; ++v) sum[0][h][v] = load<W>(kept + (h * V + v) * W);
        for (int s = 0; s < SINGLES; ++s) single[0][s] = load<H>(kept + (V * W + s) * H);
      }
      std::int32_t at = starts[strip];
      const std::int32_t end = starts[strip + 1];
      const auto add = [&](int set) {
        const float* value = a.values + std::int64_t(at + set) * H;
        const float* from = slice + std::int64_t(a.columns[at + set]) * panel.stride;
        __builtin_prefetch(value + AHEAD);
        Vector<W> b[std::max(V, 1)];
        for (int v = 0; v < V; ++v) b[v] = once(load<W>(from + (v + 1 < V ? v * W : panel.last)));
        for (int h = 0; h < H && V; ++h) {
          const Vector<W> weight = once(value[h] - Vector<W>{});
          for (int v = 0; v < V; ++v) sum[set][h][v] += weight * b[v];
        }
        for (int s = 0; s < SINGLES; ++s) single[set][s] += from[panel.singles + s] * load<H>(value);
      };
      for (; at + SETS <= end; at += SETS)
        for (int set = 0; set < SETS; ++set) add(set);
      if (SETS > 1)
        for (; at < end; ++at) add(0);
      for (int set = 1; set < SETS; ++set) {
        for (int h = 0; h < H; ++h)
          for (int v = 0; v < V; ++v) sum[0][h][v] += sum[set][h][v];
        for (int s = 0; s < SINGLES; ++s) single[0][s] += single[set][s];
      }
      if (tile + 1 < a.tiles) {
        for (int h = 0; h < H; ++h)
          for (int v = 0; v < V; ++v) store<W>(sum[0][h][v], kept + (h * V + v) * W);
        for (int s = 0; s < SINGLES; ++s) store<H>(single[0][s], kept + (V * W + s) * H);
        continue;
      }
#pragma GCC unroll 8  // or the sums would have to be in memory, to be counted through
      for (int h = 0; h < H; ++h) {
        const std::int32_t row = a.rows[strip * H + h];
        if (row < 0) continue;
        Number* out = panel.out + row * panel.n;
        for (int v = 0; v < V; ++v) store<W>(sum[0][h][v], out + (v + 1 < V ? v * W : panel.last_out));
        for (int s = 0; s < SINGLES; ++s) {
          Number column[H];
          store<H>(single[0][s], column);
          out[panel.singles_out + s] = column[h];
        }
      }
    }
  }
}

template <int H, class Number, class Column>
void dispatch(int lanes, int vectors, int singles, const Strips<Column>& a, std::int64_t first,
              std::int64_t last, const Panel<Number>& panel, float* partial) {
  const auto by_register = [&](auto w, auto v) {
    if (singles)
      multiply<w, H, v, 1>(a, first, last, panel, partial);
    else
      multiply<w, H, v, 0>(a, first, last, panel, partial);
  };
  if (vectors == 0)
    with<LEAST - 1>(singles, [&](auto s) { multiply<WIDE, H, 0, s>(a, first, last, panel, partial); });
  else if (lanes == WIDE)
    with<most_vectors(H)>(vectors, [&](auto v) { by_register(std::integral_constant<int, WIDE>(), v); });
  else if constexpr (WIDE > LEAST)
    with<WIDE / LEAST>(vectors, [&](auto v) { by_register(std::integral_constant<int, LEAST>(), v); });
}

template <int H, class Number, class Column>
void spmm(const Strips<Column>& a, const Number* b, Number* out, std::int64_t n, const std::int64_t* chunks,
          std::int64_t chunk_count, bool in_place, float* packed, float* partial,
          std::int64_t partial_floats, int threads) {
  const Cut cut(n, most_vectors(H));
  const auto column_of = [&](int panel) {
    return panel < cut.panels ? std::int64_t(cut.first(panel)) * cut.lanes : n;
  };
#pragma omp parallel num_threads(threads)
  {
    const std::int64_t thread = thread_number();
    float* mine = packed + thread * a.k * widest_row(H);
    int packed_panel = -1;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t unit = 0; unit < cut.panels * chunk_count; ++unit) {
      const int at = int(unit / chunk_count), vectors = cut.first(at + 1) - cut.first(at);
      const int singles = at + 1 == cut.panels ? cut.singles : 0;
      const std::int64_t chunk = unit % chunk_count, column = column_of(at);
      const int singles_out = int(column_of(at + 1) - column) - singles, last = singles_out - cut.lanes;
      if (!in_place && at != packed_panel) {
        const auto by_register = cut.lanes == WIDE ? pack<WIDE, Number> : pack<LEAST, Number>;
        by_register(b + column, a.k, n, vectors, last, singles, mine);
        packed_panel = at;
      }
      const float* there = reinterpret_cast<const float*>(b) + column;
      const int whole = vectors * cut.lanes, stride = whole + (vectors && singles ? cut.lanes : singles);
      Number* to = out + column;
      const Panel<Number> panel =
          in_place ? Panel<Number>{there, n, to, n, last, last, singles_out, singles_out}
                   : Panel<Number>{mine, stride, to, n, whole - cut.lanes, last, whole, singles_out};
      dispatch<H>(cut.lanes, vectors, singles, a, chunks[chunk], chunks[chunk + 1], panel,
                  partial + thread * partial_floats);
    }
  }
}

}  // namespace

#define SPMM(NUMBER, COLUMN, HEIGHT)                                                                       \
  extern "C" void spmm_##NUMBER##_##COLUMN##_##HEIGHT(                                                     \
      const std::int32_t* starts, const COLUMN##_t* columns, const float* values,                          \
      const std::int32_t* rows, const NUMBER* b, NUMBER* out, std::int64_t strips, std::int64_t k,         \
      std::int64_t n, std::int64_t depth, std::int64_t tiles, const std::int64_t* chunks,                  \
      std::int64_t chunk_count, int in_place, float* packed, float* partial,                               \
      std::int64_t partial_floats, int threads) {                                                          \
    spmm<HEIGHT>(Strips<COLUMN##_t>{starts, columns, values, rows, strips, k, depth, tiles}, b, out, n,    \
                 chunks, chunk_count, in_place, packed, partial, partial_floats, threads);                 \
  }
#define COLUMNS(NUMBER, HEIGHT) SPMM(NUMBER, uint16, HEIGHT) SPMM(NUMBER, int32, HEIGHT)
#define NUMBERS(HEIGHT) COLUMNS(float, HEIGHT) COLUMNS(bfloat16, HEIGHT)

NUMBERS(2)
NUMBERS(4)
NUMBERS(8)

extern "C" int lanes() { return WIDE; }
extern "C" int tallest() { return TALLEST; }

// Columns at a time; floats of a row of them; whether b is as good as packed; columns computed for n, those
// that two registers meet counted twice.
extern "C" int widest_panel(int height) { return most_vectors(height) * WIDE; }
extern "C" int row_of_panel(int height) { return widest_row(height); }
extern "C" int is_packed(std::int64_t n, int height) { return Cut(n, most_vectors(height)).is_packed(n); }
extern "C" std::int64_t computed(std::int64_t n) {
  const Cut cut(n, 1);
  return std::int64_t(cut.vectors) * cut.lanes + cut.singles;
}
