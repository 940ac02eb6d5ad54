// out[m, n] = a @ b, with a in sorted rows (suite/formats/grouped.py), b and out row-major.
//
// Compiled for its N, M, G and PLACEMENTS, the columns of each in order. b is packed in panels of some
// columns. The rows of b that a placement keeps are in registers while all rows of a chunk that use it
// pass, whose sums stay in L1.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "constants.h"
#include "threads.h"
#include "vectors.h"

namespace {

constexpr int ACROSS = WIDE < 8 ? 8 : WIDE;  // numbers of a vector: a register, or two short ones
#if defined(__AVX512F__)
constexpr int REGISTERS = 24;
#else
constexpr int REGISTERS = 12;
#endif
// Registers that a row of a panel fills: its sums and N rows of b fit, and a chunk's sums stay in L1.
constexpr int MOST = 4 * (N + 1) <= REGISTERS ? 4 : 2 * (N + 1) <= REGISTERS ? 2 : 1;

constexpr int ORDER[][N] = {PLACEMENTS};
constexpr int COUNT = sizeof ORDER / sizeof ORDER[0];
constexpr std::int64_t CHUNK = COUNT * G;  // rows

using Row = std::conditional_t<CHUNK <= 256, std::uint8_t, std::uint16_t>;

// Where in registers the columns of each placement are: a column stays where the placement before had it.
struct Seats {
  int column[COUNT][N];  // of each seat
  int value[COUNT][N];   // which of the placement's values meets it
};

constexpr bool has(const int (&columns)[N], int column) {
  for (int one : columns)
    if (one == column) return true;
  return false;
}

constexpr Seats seated() {
  Seats made{};
  for (int p = 0; p < COUNT; ++p)
    for (int v = 0; v < N; ++v) {
      int seat = v;
      if (p > 0) {
        seat = 0;
        const bool stays = has(made.column[p - 1], ORDER[p][v]);
        while (stays ? made.column[p - 1][seat] != ORDER[p][v] : has(ORDER[p], made.column[p - 1][seat]))
          ++seat;
      }
      made.column[p][seat] = ORDER[p][v];
      made.value[p][seat] = v;
    }
  return made;
}

constexpr Seats SEATS = seated();

using Floats = Vector<ACROSS>;

struct Grouped {
  const float* values;
  const Row* rows;
  std::int64_t m, groups;
};

#define INLINE __attribute__((always_inline))

// sum += values * rows of b.
template <int V>
INLINE inline void add(const float* values, const int (&of)[N], const Floats (&b)[N][V], float* sum) {
  Floats total[V];
  each<V>([&](auto v) INLINE { total[v] = load<ACROSS>(sum + v * ACROSS); });
  each<N>([&](auto s) INLINE {
    const float value = values[of[s]];
    each<V>([&](auto v) INLINE { total[v] += value * b[s][v]; });
  });
  each<V>([&](auto v) INLINE { store<ACROSS>(total[v], sum + v * ACROSS); });
}

template <int V>
INLINE inline void fetch(const float* b, int column, Floats (&seat)[V]) {
  each<V>([&](auto v) INLINE { seat[v] = load<ACROSS>(b + column * V * ACROSS + v * ACROSS); });
}

// One group of a whole chunk: every placement in turn.
template <int V>
void whole(const float* values, const Row* rows, const float* b, float* sums) {
  Floats seats[N][V];
  each<COUNT>([&](auto p) INLINE {
    each<N>([&](auto s) INLINE {
      if (p == 0 || SEATS.column[p][s] != SEATS.column[p > 0 ? p - 1 : 0][s])
        fetch(b, SEATS.column[p][s], seats[s]);
    });
    for (int at = p * G; at < (p + 1) * G; ++at)
      add(values + at * N, SEATS.value[p], seats, sums + rows[at] * V * ACROSS);
  });
}

// One group of a last, shorter chunk, whose placements have unlike numbers of rows.
template <int V>
void shorter(const float* values, const Row* rows, std::int64_t size, const float* b, float* sums) {
  Floats seats[N][V];
  for (int p = 0; p < COUNT; ++p) {
    for (int s = 0; s < N; ++s) fetch(b, SEATS.column[p][s], seats[s]);
    for (std::int64_t at = p * size / COUNT; at < (p + 1) * size / COUNT; ++at)
      add(values + at * N, SEATS.value[p], seats, sums + rows[at] * V * ACROSS);
  }
}

// A chunk times one panel.
template <int V>
__attribute__((noinline)) void multiply(const Grouped& a, std::int64_t first, const float* panel, float* sums,
                                        float* out, std::int64_t n, int width) {
  constexpr int STRIDE = V * ACROSS;
  const std::int64_t size = std::min(CHUNK, a.m - first);
  std::fill(sums, sums + size * STRIDE, 0.0f);
  const float* values = a.values + first * a.groups * N;
  const Row* rows = a.rows + first * a.groups;
  for (std::int64_t at = 0; at < a.groups; ++at, values += size * N, rows += size) {
    const float* b = panel + at * M * STRIDE;
    if (size == CHUNK)
      whole<V>(values, rows, b, sums);
    else
      shorter<V>(values, rows, size, b, sums);
  }
  for (std::int64_t row = 0; row < size; ++row)
    std::memcpy(out + (first + row) * n, sums + row * STRIDE, width * sizeof(float));
}

int vectors_of(std::int64_t width) { return int((width + ACROSS - 1) / ACROSS); }

constexpr std::int64_t PANEL = MOST * ACROSS;

// One row of b into all panels.
void pack(const float* row, std::int64_t at, std::int64_t k, std::int64_t n, float* packed) {
  for (std::int64_t column = 0; column < n; column += PANEL) {
    const std::int64_t width = std::min(PANEL, n - column), stride = vectors_of(width) * ACROSS;
    float* to = packed + column * k + at * stride;
    std::memcpy(to, row + column, width * sizeof(float));
    std::fill(to + width, to + stride, 0.0f);
  }
}

}  // namespace

extern "C" void multiply(const float* values, const Row* rows, const float* b, float* out, std::int64_t m,
                         std::int64_t groups, std::int64_t n, float* packed, float* sums, int threads) {
  const Grouped a{values, rows, m, groups};
  const std::int64_t k = groups * M, panels = (n + PANEL - 1) / PANEL, chunks = (m + CHUNK - 1) / CHUNK;
  const float* source = n == PANEL ? b : packed;  // then it is a panel already
#pragma omp parallel num_threads(threads)
  {
    if (source == packed) {
#pragma omp for schedule(static)
      for (std::int64_t row = 0; row < k; ++row) pack(b + row * n, row, k, n, packed);
    }
    float* own = sums + thread_number() * CHUNK * PANEL;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t unit = 0; unit < panels * chunks; ++unit) {
      const std::int64_t column = unit / chunks * PANEL, first = unit % chunks * CHUNK;
      const int width = int(std::min(PANEL, n - column));
      with<MOST>(vectors_of(width), [&](auto v) {
        multiply<v>(a, first, source + column * k, own, out + column, n, width);
      });
    }
  }
}

extern "C" int panel() { return PANEL; }
extern "C" int stride(int width) { return vectors_of(width) * ACROSS; }
