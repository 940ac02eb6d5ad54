// c = a @ b, all in compressed rows: the rows of b that a row of a names are merged as they are read.
//
// The products of a row meet in one of two accumulators, a window of columns or a hash table, and leave it as
// the row of c. Threads take chunks of rows of equal work, and put what comes of one behind the chunk that
// was done before it; several threads then move the chunks to their places.
//
// To be compiled with -ffp-contract=off, see Window.

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "entries.h"
#include "threads.h"

namespace {

constexpr Count WIDEST = 16;      // columns that a window may have for each product that falls into it
constexpr Count ROOM = 4;         // slots of a table for each product
constexpr Count GRAIN = 1 << 14;  // work of a chunk, in products: what comes of it stays in L2
constexpr Count ROW = 8;          // what a row costs beside its products
constexpr Index LONG = 8;         // entries from which on a row of b without gaps is worth a loop of its own
constexpr int LANES = 16;
constexpr Index FREE = -1;

struct Matrix {
  const Index* starts;
  const Index* columns;
  const float* values;
};

// A sum for each column. Those that no product has reached hold -0.0, which is what only -0.0 adds up to; a
// product to which 0.0 was added first is never that. So a sum of zero is told from none. A fused
// multiplication and addition would undo this where a product underflows.
struct Window {
  float* sums;

  void add(float scale, const Matrix& b, Index first, Index last) const {
    const Index* columns = b.columns + first;
    const float* values = b.values + first;
    const Index length = last - first;
    if (length >= LONG && columns[length - 1] - columns[0] == length - 1) {
      float* to = sums + columns[0];
      for (Index at = 0; at < length; ++at) to[at] += scale * values[at] + 0.0f;
    } else {
      for (Index at = 0; at < length; ++at) sums[columns[at]] += scale * values[at] + 0.0f;
    }
  }

  // What was reached from column low to high, in order. The window is then as it was.
  Count take(Index low, Index high, Entries to) const {
    Count count = 0;
    for (Index column = low / LANES * LANES; column <= high; column += LANES) {
      float* at = sums + column;
      std::uint32_t lanes = reached(at);
      if (!lanes) continue;
#if defined(__AVX512F__)
      const __m512i steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      const __m512i columns = _mm512_add_epi32(_mm512_set1_epi32(column), steps);
      _mm512_storeu_si512(to.columns + count, _mm512_maskz_compress_epi32(lanes, columns));
      _mm512_storeu_ps(to.values + count, _mm512_maskz_compress_ps(lanes, _mm512_loadu_ps(at)));
      _mm512_storeu_ps(at, _mm512_set1_ps(-0.0f));
      count += __builtin_popcount(lanes);
#else
      for (; lanes; lanes &= lanes - 1, ++count) {
        const int lane = __builtin_ctz(lanes);
        to.columns[count] = column + lane;
        to.values[count] = at[lane];
        at[lane] = -0.0f;
      }
#endif
    }
    return count;
  }

  // Which of LANES sums are not -0.0.
  static std::uint32_t reached(const float* at) {
#if defined(__AVX512F__)
    const __m512i bits = _mm512_castps_si512(_mm512_loadu_ps(at));
    return _mm512_cmpneq_epi32_mask(bits, _mm512_set1_epi32(INT32_MIN));
#elif defined(__AVX2__)
    const __m256i none = _mm256_set1_epi32(INT32_MIN);
    const __m256i low = _mm256_cmpeq_epi32(_mm256_castps_si256(_mm256_loadu_ps(at)), none);
    const __m256i high = _mm256_cmpeq_epi32(_mm256_castps_si256(_mm256_loadu_ps(at + 8)), none);
    const int first = _mm256_movemask_ps(_mm256_castsi256_ps(low));
    return ~(first | _mm256_movemask_ps(_mm256_castsi256_ps(high)) << 8) & 0xffff;
#else
    std::uint64_t pairs[LANES / 2], any = 0;
    std::memcpy(pairs, at, sizeof pairs);
    for (std::uint64_t pair : pairs) any |= pair ^ 0x8000000080000000u;
    if (!any) return 0;
    std::uint32_t bits[LANES], lanes = 0;
    std::memcpy(bits, at, sizeof bits);
    for (int lane = 0; lane < LANES; ++lane) lanes |= std::uint32_t(bits[lane] != 0x80000000u) << lane;
    return lanes;
#endif
  }
};

struct Slot {
  Index column;
  float sum;
};

// Open addressing, linear probing. `used` are the slots that are taken, in the order in which they were.
struct Table {
  Slot* slots;
  Index* used;
  int bits = 0;
  Count count = 0, collisions = 0;

  void fit(Count products) {
    for (bits = 4; Count(1) << bits < ROOM * products;) ++bits;
  }

  void add(float scale, const Matrix& b, Index first, Index last) {
    const int shift = 32 - bits;
    const std::uint32_t mask = (1u << bits) - 1;
    Index* end = used + count;
    for (Index at = first; at < last; ++at) {
      const Index column = b.columns[at];
      const float product = scale * b.values[at];
      std::uint32_t slot = std::uint32_t(column) * 2654435769u >> shift;  // Fibonacci hashing
      for (;; slot = (slot + 1) & mask, ++collisions) {
        if (slots[slot].column == column) {
          slots[slot].sum += product;
          break;
        }
        if (slots[slot].column == FREE) {
          slots[slot] = {column, product};
          *end++ = Index(slot);
          break;
        }
      }
    }
    count = end - used;
  }

  // Everything, in the order of arrival. The table is then empty.
  Count take(Entries to) {
    const Count taken = count;
    for (Count at = 0; at < taken; ++at) {
      Slot& slot = slots[used[at]];
      to.columns[at] = slot.column;
      to.values[at] = slot.sum;
      slot.column = FREE;
    }
    count = 0;
    return taken;
  }
};

Count up(Count bytes) { return (bytes + 63) / 64 * 64; }

// What a thread works in: of a size that p alone decides. A row that meets in a table has fewer than p /
// WIDEST products, and a chunk fewer than GRAIN before its last row.
struct Desk {
  Count p, most, slots = 1;

  explicit Desk(Count p) : p(p), most(p / WIDEST + 1) {
    while (slots < ROOM * most || slots < LANES) slots *= 2;
  }

  Count window_bytes() const { return up((p + LANES) * sizeof(float)); }
  Count slot_bytes() const { return up(slots * sizeof(Slot)); }
  Count used_bytes() const { return up(most * sizeof(Index)); }
  Count entry_bytes() const { return up((GRAIN + p + LANES) * sizeof(float)); }
  Count bytes() const { return window_bytes() + slot_bytes() + used_bytes() + 2 * entry_bytes(); }

  Window window(char* at) const { return {reinterpret_cast<float*>(at)}; }
  Table table(char* at) const {
    at += window_bytes();
    return {reinterpret_cast<Slot*>(at), reinterpret_cast<Index*>(at + slot_bytes())};
  }
  Entries entries(char* at) const {
    at += window_bytes() + slot_bytes() + used_bytes();
    return {reinterpret_cast<Index*>(at), reinterpret_cast<float*>(at + entry_bytes())};
  }
};

// The first row before which there is so much work.
Count row_at(const Count* products, Count m, Count work) {
  Count low = 0, high = m;
  while (low < high) {
    const Count middle = (low + high) / 2;
    if (products[middle] + ROW * middle < work)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// One row of c, of so many products: how many entries it has. `hashed` grows by those that met in a table.
Count merge(const Matrix& a, const Matrix& b, Count row, Count products, const Window& window, Table& table,
            Entries to, Count& hashed) {
  if (!products) return 0;
  const Index first = a.starts[row], last = a.starts[row + 1];
  Index low = INT32_MAX, high = 0;
  for (Index at = first; at < last; ++at) {
    const Index begin = b.starts[a.columns[at]], end = b.starts[a.columns[at] + 1];
    if (begin == end) continue;
    low = std::min(low, b.columns[begin]);
    high = std::max(high, b.columns[end - 1]);
  }
  if (high - low < WIDEST * products) {
    for (Index at = first; at < last; ++at)
      window.add(a.values[at], b, b.starts[a.columns[at]], b.starts[a.columns[at] + 1]);
    return window.take(low, high, to);
  }
  hashed += products;
  table.fit(products);
  for (Index at = first; at < last; ++at)
    table.add(a.values[at], b, b.starts[a.columns[at]], b.starts[a.columns[at] + 1]);
  return table.take(to);
}

}  // namespace

extern "C" Count desk_bytes(Count p) { return Desk(p).bytes(); }

// Desks as the product expects and leaves them.
extern "C" void clear(char* desks, Count p, int threads) {
  const Desk desk(p);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int one = 0; one < threads; ++one) {  // each by the thread that will work there
    char* own = desks + one * desk.bytes();
    std::fill_n(desk.window(own).sums, p + LANES, -0.0f);
    std::fill_n(desk.table(own).slots, desk.slots, Slot{FREE, 0});
  }
}

// The number of c's nonzeros. If that is more than `capacity`, they are not there, and want to be asked for
// again. staged: as c, for more than one thread. products, places: m + 1. told: multiplications, those that
// met in tables, collisions in these.
extern "C" Count spgemm(const Index* a_starts, const Index* a_columns, const float* a_values,
                        const Index* b_starts, const Index* b_columns, const float* b_values, Count* starts,
                        Index* c_columns, float* c_values, Index* staged_columns, float* staged_values,
                        Count capacity, Count m, Count p, Count* products, Count* places, char* desks,
                        Count* told, int threads) {
  const Matrix a{a_starts, a_columns, a_values}, b{b_starts, b_columns, b_values};
  const Entries c{c_columns, c_values};
  const Entries staged = threads > 1 ? Entries{staged_columns, staged_values} : c;
  const Desk desk(p);
  Count chunks = 0, filled = 0, hashed = 0, collisions = 0;
#pragma omp parallel num_threads(threads) reduction(+ : hashed, collisions)
  {
#pragma omp for schedule(static)
    for (Count row = 0; row < m; ++row) {
      Count sum = 0;
      for (Index at = a.starts[row]; at < a.starts[row + 1]; ++at)
        sum += b.starts[a.columns[at] + 1] - b.starts[a.columns[at]];
      products[row + 1] = sum;
    }
#pragma omp single
    {
      products[0] = 0;
      for (Count row = 0; row < m; ++row) products[row + 1] += products[row];
      chunks = (products[m] + ROW * m) / GRAIN + 1;
    }
    char* own = desks + thread_number() * desk.bytes();
    const Window window = desk.window(own);
    const Entries entries = desk.entries(own);
    Table table = desk.table(own);
#pragma omp for schedule(dynamic, 1)
    for (Count chunk = 0; chunk < chunks; ++chunk) {
      const Count first = row_at(products, m, chunk * GRAIN);
      const Count last = row_at(products, m, (chunk + 1) * GRAIN);
      Count count = 0, place;
      for (Count row = first; row < last; ++row) {
        const Count found =
            merge(a, b, row, products[row + 1] - products[row], window, table, entries.from(count), hashed);
        starts[row + 1] = found;
        count += found;
      }
#pragma omp atomic capture
      {
        place = filled;
        filled += count;
      }
      if (first < last) places[first] = place;
      if (place + count <= capacity) staged.from(place).copy(entries, count);
    }
    collisions += table.collisions;
#pragma omp single
    {
      starts[0] = 0;
      for (Count row = 0; row < m; ++row) starts[row + 1] += starts[row];
    }
    if (threads > 1 && filled <= capacity) {
#pragma omp for schedule(dynamic, 1)
      for (Count chunk = 0; chunk < chunks; ++chunk) {
        const Count first = row_at(products, m, chunk * GRAIN);
        const Count last = row_at(products, m, (chunk + 1) * GRAIN);
        if (first < last)
          c.from(starts[first]).copy(staged.from(places[first]), starts[last] - starts[first]);
      }
    }
  }
  told[0] = products[m];
  told[1] = hashed;
  told[2] = collisions;
  return filled;
}

extern "C" int lanes() {
#if defined(__AVX512F__)
  return LANES;
#else
  return 1;
#endif
}
