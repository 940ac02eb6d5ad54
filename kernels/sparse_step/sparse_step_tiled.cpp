// The products of a training step, for a matrix whose pattern stays and whose values change:
//   multiply: out[rows, n] = a @ b          (forward; the input gradient, with the pattern and values by columns)
//   sample:   out[nnz] = (dy @ x^T) at the stored positions          (the weight gradient)
//
// A tile is a run of columns, whose rows of b, or of x, stay in L1 or L2. There are n columns of those, a multiple
// of the lanes. As many as registers hold are a panel, and operands are packed, panel after panel: rows that lie
// further apart would share a few sets of the caches. A single panel is packed as it is.

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "constants.h"
#include "fours.h"
#include "vectors.h"

namespace {

constexpr int MOST = WIDE == 16 ? 16 : 8;  // registers that a row's sums, or a row of dy, may take
constexpr int GROUP = 4;                   // entries that are loaded, and that are summed across, together
constexpr int SOON = 2;                    // rows

using Floats = Vector<WIDE>;
using Columns = FourColumns<std::uint16_t>;

// Entries edges[t * rows + i] to edges[t * rows + i + next] are row i of tile t; columns count from the tile's
// first. Entries are in order of rows (next is rows) or of tiles (next is one).
struct Tiles {
  const std::int32_t* edges;
  const std::uint16_t* columns;
  std::int64_t rows, tiles, depth, next;
};

// Columns of operands in panels of about equal width.
struct Panels {
  std::int64_t vectors, count;
  explicit Panels(std::int64_t n) : vectors(n / WIDE), count((vectors + MOST - 1) / MOST) {}
  std::int64_t first(std::int64_t panel) const { return vectors * panel / count * WIDE; }
  int registers(std::int64_t panel) const { return int((first(panel + 1) - first(panel)) / WIDE); }
};

// Rows of a tile lie far apart where entries are in order of rows: no processor guesses where the next one is.
template <class Number>
inline void fetch(const Number* from, const std::int32_t* edge, std::int64_t next) {
  for (std::int32_t at = edge[0]; at < edge[next]; at += LINE / sizeof(Number)) __builtin_prefetch(from + at);
  __builtin_prefetch(from + edge[next]);
}

// Rows first to last of a panel; those of `out` are n apart. SETS of sums take turns, so that no multiply-add
// waits for the one before.
template <int VECTORS>
void multiply(const Tiles& a, const float* values, const float* b, float* out, std::int64_t n,
              std::int64_t first, std::int64_t last) {
  constexpr int SETS = VECTORS >= 8 ? 1 : VECTORS >= 3 ? 2 : GROUP;
  for (std::int64_t tile = 0; tile < a.tiles; ++tile) {
    const std::int32_t* edges = a.edges + tile * a.rows;
    const float* slice = b + tile * a.depth * VECTORS * WIDE;
    for (std::int64_t row = first; row < last; ++row) {
      std::int32_t at = edges[row];
      const std::int32_t end = edges[row + a.next];
      if (tile && at == end) continue;
      if (row + SOON < last) {
        fetch(values, edges + row + SOON, a.next);
        fetch(a.columns, edges + row + SOON, a.next);
      }
      float* to = out + row * n;
      Floats sum[SETS][VECTORS] = {};
      if (tile)
        for (int v = 0; v < VECTORS; ++v) sum[0][v] = load<WIDE>(to + v * WIDE);
      const auto add = [&](int set, Floats value, std::int64_t column) {
        const float* from = slice + column * VECTORS * WIDE;
        for (int v = 0; v < VECTORS; ++v) sum[set][v] += value * load<WIDE>(from + v * WIDE);
      };
      for (; at + GROUP <= end; at += GROUP) {
        const Columns columns(a.columns + at);
        const FourValues<WIDE, float> four(values + at);
        add(0, four.template spread<0>(), columns[0]);
        add(1 % SETS, four.template spread<1>(), columns[1]);
        add(2 % SETS, four.template spread<2>(), columns[2]);
        add(3 % SETS, four.template spread<3>(), columns[3]);
      }
      for (; at < end; ++at) add(0, values[at] - Floats{}, a.columns[at]);
      for (int s = 1; s < SETS; ++s)
        for (int v = 0; v < VECTORS; ++v) sum[0][v] += sum[s][v];
      for (int v = 0; v < VECTORS; ++v) store<WIDE>(sum[0][v], to + v * WIDE);
    }
  }
}

#if defined(__AVX512F__)
// Four sums across: 13 instructions, where one takes eight.
inline Vector<4> across(const Floats* of) {
  const auto pairs = [](__m512 a, __m512 b) {
    return _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
  };
  const __m512d low = pairs((__m512)of[0], (__m512)of[1]), high = pairs((__m512)of[2], (__m512)of[3]);
  const __m512 fours = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(low, high)),
                                     _mm512_castpd_ps(_mm512_unpackhi_pd(low, high)));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(fours),
                                    _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(fours), 1)));
  return (Vector<4>)_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
#else
inline Vector<4> across(const Floats* of) {
  Vector<4> sums;
  for (int s = 0; s < GROUP; ++s) {
    Vector<4> parts[WIDE / 4];
    std::memcpy(parts, of + s, sizeof parts);
    for (int part = 1; part < WIDE / 4; ++part) parts[0] += parts[part];
    sums[s] = (parts[0][0] + parts[0][1]) + (parts[0][2] + parts[0][3]);
  }
  return sums;
}
#endif

// Of a panel; `more` adds to what those before have left.
template <int VECTORS>
void sample(const Tiles& mask, const float* dy, const float* x, float* out, std::int64_t first,
            std::int64_t last, bool more) {
  for (std::int64_t tile = 0; tile < mask.tiles; ++tile) {
    const std::int32_t* edges = mask.edges + tile * mask.rows;
    const float* slice = x + tile * mask.depth * VECTORS * WIDE;
    for (std::int64_t row = first; row < last; ++row) {
      std::int32_t at = edges[row];
      const std::int32_t end = edges[row + mask.next];
      if (row + SOON < last) {
        fetch(out, edges + row + SOON, mask.next);
        fetch(mask.columns, edges + row + SOON, mask.next);
      }
      Floats left[VECTORS];
      for (int v = 0; v < VECTORS; ++v) left[v] = load<WIDE>(dy + (row * VECTORS + v) * WIDE);
      const auto sums = [&](Columns columns) {
        Floats sum[GROUP];
        for (int s = 0; s < GROUP; ++s) {
          const float* right = slice + columns[s] * VECTORS * WIDE;
          sum[s] = left[0] * load<WIDE>(right);
          for (int v = 1; v < VECTORS; ++v) sum[s] += left[v] * load<WIDE>(right + v * WIDE);
        }
        return across(sum);
      };
      for (; at + GROUP <= end; at += GROUP) {
        const Vector<4> four = sums(Columns(mask.columns + at));
        store<4>(more ? four + load<4>(out + at) : four, out + at);
      }
      if (at < end) {
        std::uint16_t columns[GROUP] = {};
        std::copy(mask.columns + at, mask.columns + end, columns);
        const Vector<4> four = sums(Columns(columns));
        for (int s = 0; at < end; ++s, ++at) out[at] = more ? out[at] + four[s] : four[s];
      }
    }
  }
}

}  // namespace

// Of rows that are so far apart; zeros where there are no columns any more.
extern "C" void pack(const float* from, std::int64_t apart, std::int64_t rows, std::int64_t columns,
                     std::int64_t n, int threads, float* to) {
  const Panels panels(n);
#pragma omp parallel for num_threads(threads)
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t panel = 0; panel < panels.count; ++panel) {
      const std::int64_t first = panels.first(panel), width = panels.first(panel + 1) - first;
      const std::int64_t there = std::min(width, std::max<std::int64_t>(0, columns - first));
      float* out = to + first * rows + row * width;
      std::copy_n(from + row * apart + first, there, out);
      std::fill(out + there, out + width, 0.0f);
    }
}

extern "C" void multiply(const std::int32_t* edges, const std::uint16_t* columns, std::int64_t rows,
                         std::int64_t across, std::int64_t tiles, std::int64_t depth, std::int64_t next,
                         std::int64_t chunk, int threads, std::int64_t n, const float* values, const float* b,
                         float* out) {
  const Tiles a{edges, columns, rows, tiles, depth, next};
  const Panels panels(n);
  const std::int64_t chunks = (rows + chunk - 1) / chunk;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t unit = 0; unit < chunks * panels.count; ++unit) {
    const std::int64_t panel = unit / chunks, first = unit % chunks * chunk;
    const std::int64_t last = std::min(rows, first + chunk), column = panels.first(panel);
    with<MOST>(panels.registers(panel), [&](auto vectors) {
      multiply<vectors>(a, values, b + column * across, out + column, n, first, last);
    });
  }
}

extern "C" void sample(const std::int32_t* edges, const std::uint16_t* columns, std::int64_t rows,
                       std::int64_t across, std::int64_t tiles, std::int64_t depth, std::int64_t next,
                       std::int64_t chunk, int threads, std::int64_t n, const float* dy, const float* x,
                       float* out) {
  const Tiles mask{edges, columns, rows, tiles, depth, next};
  const Panels panels(n);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t first = 0; first < rows; first += chunk)
    for (std::int64_t panel = 0; panel < panels.count; ++panel) {
      const std::int64_t last = std::min(rows, first + chunk), column = panels.first(panel);
      with<MOST>(panels.registers(panel), [&](auto vectors) {
        sample<vectors>(mask, dy + column * rows, x + column * across, out, first, last, panel);
      });
    }
}

extern "C" int lanes() { return WIDE; }
extern "C" int panel() { return WIDE * MOST; }
