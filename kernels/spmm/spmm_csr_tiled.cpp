// out[m, n] = a @ b, with a in tiled rows (suite/formats/tiled.py) and b, out row-major.
//
// Panels of b's columns are worked on one after the other; a tile of a then touches a slice of a panel that
// stays in L1 or L2. Where b is used often enough, panels are packed first. The sums of a row live in registers
// while a segment is worked on, and in `partial` between its tiles.

#include <cstdint>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "constants.h"
#include "fours.h"
#include "segments.h"
#include "threads.h"
#include "vectors.h"

namespace {

constexpr int PANEL = 64;   // columns of a packed panel: four registers of AVX-512
constexpr int NARROW = 4;   // fewer columns than this are padded: no register is so short
constexpr int AHEAD = 256;  // nonzeros: `a` comes from far away, and once

// Past the caches: nothing is fetched that will be written over. For whole, aligned registers.
template <int W, class Number>
inline void stream(Vector<W> value, Number* to) {
#if defined(__AVX512F__)
  if constexpr (W == 16 && sizeof(Number) == 4) return _mm512_stream_ps((float*)to, (__m512)value);
#elif defined(__AVX__)
  if constexpr (W == 8 && sizeof(Number) == 4) return _mm256_stream_ps((float*)to, (__m256)value);
#endif
  store<W>(value, to);
}

inline void settle() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

template <class Number>
inline void fetch(const Number* from, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += LINE / sizeof(Number)) __builtin_prefetch(from + AHEAD + i);
}

template <class Number, class Column>
struct Tiled {
  const std::int64_t* starts;
  const std::int64_t* edges;
  const std::int32_t* target;
  const std::int64_t* segment_starts;
  const Segment* segments;
  const Column* columns;
  const Number* values;
  std::int64_t k, depth, tiles;
};

// Where the columns of a panel are read and written.
template <class Source, class Number>
struct Panel {
  const Source* b;
  std::int64_t stride;  // numbers between rows of b
  std::int64_t first, width;
  Number* out;
  float* spill;
  std::int64_t n;
  bool streamed;
};

// A panel's last vector ends with its last column and may overlap the one before: nothing is padded.
template <int W, int VECTORS>
inline std::int64_t offset(int v, std::int64_t width) {
  return v + 1 < VECTORS ? v * W : width - W;
}

// The segments of a chunk. SETS of sums take turns, so that no multiply-add waits for the one before.
template <int W, int VECTORS, class Source, class Number, class Column>
__attribute__((noinline)) void multiply(const Tiled<Number, Column>& a, std::int64_t chunk, float* partial,
              const Panel<Source, Number>& panel) {
  constexpr int SETS = VECTORS >= 8 ? 1 : VECTORS >= 3 ? 2 : 4;
  std::int64_t at = a.starts[chunk];
  const std::int32_t* target = a.target + a.edges[chunk];
  for (std::int64_t tile = 0; tile < a.tiles; ++tile) {
    const Source* slice = panel.b + tile * a.depth * panel.stride;
    const std::int64_t* range = a.segment_starts + chunk * a.tiles + tile;
    for (std::int64_t number = range[0]; number < range[1]; ++number) {
      const Segment segment = a.segments[number];
      const int piece = segment.piece & (LAST - 1);
      float* kept = partial + std::int64_t(piece) * W * VECTORS;
      Vector<W> sum[SETS][VECTORS] = {};
      if (!(segment.piece & FIRST))
        for (int v = 0; v < VECTORS; ++v) sum[0][v] = load<W>(kept + v * W);
      const std::int64_t end = at + segment.length;
      fetch(a.values + at, segment.length);
      fetch(a.columns + at, segment.length);
      const auto add = [&](int set, Vector<W> value, std::int64_t column) {
        const Source* b = slice + column * panel.stride;
        for (int v = 0; v < VECTORS; ++v) sum[set][v] += value * load<W>(b + offset<W, VECTORS>(v, panel.width));
      };
      for (; at + 4 <= end; at += 4) {
        const FourColumns<Column> columns(a.columns + at);
        const FourValues<W, Number> values(a.values + at);
        add(0, values.template spread<0>(), columns[0]);
        add(1 % SETS, values.template spread<1>(), columns[1]);
        add(2 % SETS, values.template spread<2>(), columns[2]);
        add(3 % SETS, values.template spread<3>(), columns[3]);
      }
      for (; at < end; ++at) add(0, widen(a.values[at]) - Vector<W>{}, a.columns[at]);
      for (int s = 1; s < SETS; ++s)
        for (int v = 0; v < VECTORS; ++v) sum[0][v] += sum[s][v];
      if (!(segment.piece & LAST)) {
        for (int v = 0; v < VECTORS; ++v) store<W>(sum[0][v], kept + v * W);
        continue;
      }
      const std::int64_t row = target[piece];
      for (int v = 0; v < VECTORS; ++v) {
        const std::int64_t column = panel.first + offset<W, VECTORS>(v, panel.width);
        if (row < 0)
          store<W>(sum[0][v], panel.spill + (-1 - row) * panel.n + column);
        else if (panel.streamed)
          stream<W>(sum[0][v], panel.out + row * panel.n + column);
        else
          store<W>(sum[0][v], panel.out + row * panel.n + column);
      }
    }
  }
}

// Two or three columns, padded to four.
template <class Number, class Column>
void few_columns(const Tiled<Number, Column>& a, std::int64_t chunk, float* partial,
                 const Panel<float, Number>& panel) {
  float rows[NARROW];
  std::int64_t at = a.starts[chunk];
  const std::int32_t* target = a.target + a.edges[chunk];
  for (std::int64_t tile = 0; tile < a.tiles; ++tile) {
    const std::int64_t* range = a.segment_starts + chunk * a.tiles + tile;
    for (std::int64_t number = range[0]; number < range[1]; ++number) {
      const Segment segment = a.segments[number];
      const int piece = segment.piece & (LAST - 1);
      Vector<NARROW> sum = segment.piece & FIRST ? Vector<NARROW>{} : load<NARROW>(partial + piece * NARROW), other{};
      const float* slice = panel.b + tile * a.depth * NARROW;
      const std::int64_t end = at + segment.length;
      for (; at + 2 <= end; at += 2) {
        sum += widen(a.values[at]) * load<NARROW>(slice + std::int64_t(a.columns[at]) * NARROW);
        other += widen(a.values[at + 1]) * load<NARROW>(slice + std::int64_t(a.columns[at + 1]) * NARROW);
      }
      for (; at < end; ++at) sum += widen(a.values[at]) * load<NARROW>(slice + std::int64_t(a.columns[at]) * NARROW);
      sum += other;
      if (!(segment.piece & LAST)) {
        store<NARROW>(sum, partial + piece * NARROW);
        continue;
      }
      store<NARROW>(sum, rows);
      const std::int64_t row = target[piece];
      for (std::int64_t j = 0; j < panel.n; ++j)
        if (row >= 0)
          narrow(rows[j], panel.out + row * panel.n + j);
        else
          panel.spill[(-1 - row) * panel.n + j] = rows[j];
    }
  }
}

// One column.
template <class Number, class Column>
inline float dot(const Number* values, const Column* columns, std::int64_t count, const float* x) {
  Vector<4> sum[4] = {};
  std::int64_t at = 0;
  for (; at + 16 <= count; at += 16)
    for (int s = 0; s < 4; ++s) sum[s] += load<4>(values + at + 4 * s) * pick_four(x, columns + at + 4 * s);
  float total = 0;
  for (; at < count; ++at) total += widen(values[at]) * x[columns[at]];
  const Vector<4> all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  return total + ((all[0] + all[1]) + (all[2] + all[3]));
}

template <class Number, class Column>
void one_column(const Tiled<Number, Column>& a, std::int64_t chunk, float* partial,
                const Panel<float, Number>& panel) {
  std::int64_t at = a.starts[chunk];
  const std::int32_t* target = a.target + a.edges[chunk];
  for (std::int64_t tile = 0; tile < a.tiles; ++tile) {
    const std::int64_t* range = a.segment_starts + chunk * a.tiles + tile;
    for (std::int64_t number = range[0]; number < range[1]; ++number) {
      const Segment segment = a.segments[number];
      const int piece = segment.piece & (LAST - 1);
      float sum = dot(a.values + at, a.columns + at, segment.length, panel.b + tile * a.depth);
      at += segment.length;
      if (!(segment.piece & FIRST)) sum += partial[piece];
      const std::int64_t row = target[piece];
      if (!(segment.piece & LAST))
        partial[piece] = sum;
      else if (row >= 0)
        narrow(sum, panel.out + row);
      else
        panel.spill[-1 - row] = sum;
    }
  }
}

// The lanes and the number of registers for so many columns.
int lanes_of(std::int64_t width) {
  int lanes = WIDE;
  while (lanes > width && lanes > NARROW) lanes /= 2;
  return lanes;
}

int vectors_of(std::int64_t width) { return int((width + lanes_of(width) - 1) / lanes_of(width)); }

template <class Source, class Number, class Column>
void dispatch(const Tiled<Number, Column>& a, std::int64_t chunk, float* partial,
              const Panel<Source, Number>& panel) {
  const int lanes = lanes_of(panel.width), vectors = vectors_of(panel.width);
  if (lanes == WIDE && vectors == 256 / WIDE && WIDE == 16)
    multiply<WIDE, 16>(a, chunk, partial, panel);
  else if (lanes == WIDE && vectors == 128 / WIDE && WIDE == 16)
    multiply<WIDE, 8>(a, chunk, partial, panel);
  else if (lanes == WIDE)
    with<PANEL / WIDE>(vectors, [&](auto v) { multiply<WIDE, v>(a, chunk, partial, panel); });
  else if (lanes == 8)
    with<2>(vectors, [&](auto v) { multiply<8, v>(a, chunk, partial, panel); });
  else
    with<2>(vectors, [&](auto v) { multiply<4, v>(a, chunk, partial, panel); });
}

// Columns first to first + width of b: in place, or packed at `offset`; `stride` numbers between its rows.
struct Columns {
  std::int64_t first, width, stride, offset;
};

template <class Number>
void pack(const Number* b, std::int64_t n, const Columns& panel, std::int64_t row, float* packed) {
  float* to = packed + panel.offset + row * panel.stride;
  const Number* from = b + row * n + panel.first;
  for (std::int64_t j = 0; j < panel.width; ++j) to[j] = widen(from[j]);
  if (panel.width > 1 && panel.width < NARROW)
    for (std::int64_t j = panel.width; j < NARROW; ++j) to[j] = 0;
}

template <class Source, class Number, class Column>
void work(const Tiled<Number, Column>& a, std::int64_t chunk, float* partial, const Panel<Source, Number>& panel) {
  if constexpr (sizeof(Source) == 4) {
    if (panel.width == 1 && panel.n == 1) return one_column(a, chunk, partial, panel);
    if (panel.width < NARROW) return few_columns(a, chunk, partial, panel);
  }
  dispatch(a, chunk, partial, panel);
}

template <class Number, class Column>
void spmm(const Tiled<Number, Column>& a, std::int64_t chunks, const std::int32_t* spilled, std::int64_t cut_rows,
          const Number* b, Number* out, std::int64_t n, const Columns* panels, std::int64_t panel_count,
          float* packed, float* partial, std::int64_t partial_size, float* spill, bool streamed, int threads) {
#pragma omp parallel num_threads(threads)
  {
    if (packed) {
#pragma omp for schedule(static)
      for (std::int64_t row = 0; row < a.k; ++row)
        for (std::int64_t p = 0; p < panel_count; ++p) pack(b, n, panels[p], row, packed);
    }
    float* own = partial + thread_number() * partial_size;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t unit = 0; unit < panel_count * chunks; ++unit) {
      const Columns& at = panels[unit / chunks];
      if (packed)
        work(a, unit % chunks, own,
             Panel<float, Number>{packed + at.offset, at.stride, at.first, at.width, out, spill, n, streamed});
      else
        work(a, unit % chunks, own,
             Panel<Number, Number>{b + at.first, at.stride, at.first, at.width, out, spill, n, streamed});
    }
    settle();
#pragma omp for schedule(static)
    for (std::int64_t row = 0; row < cut_rows; ++row) {
      const std::int32_t* which = spilled + 3 * row;
      for (std::int64_t j = 0; j < n; ++j) {
        float sum = 0;
        for (std::int32_t s = 0; s < which[2]; ++s) sum += spill[(which[1] + s) * n + j];
        narrow(sum, out + which[0] * n + j);
      }
    }
  }
}

}  // namespace

#define SPMM(NAME, NUMBER, COLUMN)                                                                            \
  extern "C" void NAME(const std::int64_t* starts, const std::int64_t* edges, const std::int32_t* target,     \
                       const std::int32_t* spilled, const std::int64_t* segment_starts,                       \
                       const Segment* segments, const COLUMN* columns, const NUMBER* values, const NUMBER* b, \
                       NUMBER* out, std::int64_t k, std::int64_t n, std::int64_t depth, std::int64_t tiles,   \
                       std::int64_t chunks, std::int64_t cut_rows, const Columns* panels,                     \
                       std::int64_t panel_count, float* packed, float* partial, std::int64_t partial_size,    \
                       float* spill, int streamed, int threads) {                                             \
    spmm(Tiled<NUMBER, COLUMN>{starts, edges, target, segment_starts, segments, columns, values, k, depth,    \
                               tiles},                                                                        \
         chunks, spilled, cut_rows, b, out, n, panels, panel_count, packed, partial, partial_size, spill,     \
         streamed != 0, threads);                                                                             \
  }

SPMM(spmm_float32_uint16, float, std::uint16_t)
SPMM(spmm_float32_int32, float, std::int32_t)
SPMM(spmm_bfloat16_uint16, bfloat16, std::uint16_t)
SPMM(spmm_bfloat16_int32, bfloat16, std::int32_t)

extern "C" int lanes() { return WIDE; }
