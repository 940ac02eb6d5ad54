// c = a @ b by outer products: every column of a meets the row of b of its number; all products are stored.
//
// `multiply` puts them down by rows of c, as they come: a row of b, times a number, is a run in order.
// `merge` brings those of a row in order and adds what falls together; `place` moves the rows of c together.

#include <algorithm>
#include <cstdint>

#include "entries.h"
#include "threads.h"

namespace {

constexpr int FEW = 64;       // columns or rows that a thread takes at a time
constexpr int DIGIT = 8;      // bits of a column that one pass of sorting looks at
constexpr Count MANY = 1024;  // products from which on a row is sorted rather than merged run by run

// Two runs into one, what falls together added; its length.
Count join(const Entries& from, Count first, Count middle, Count last, const Entries& to) {
  Count left = first, right = middle, count = 0;
  while (left < middle && right < last) {
    const Index one = from.columns[left], other = from.columns[right];
    to.columns[count] = std::min(one, other);
    to.values[count++] = (one <= other ? from.values[left] : 0) + (other <= one ? from.values[right] : 0);
    left += one <= other;
    right += other <= one;
  }
  for (; left < middle; ++left) to.put(count++, from, left);
  for (; right < last; ++right) to.put(count++, from, right);
  return count;
}

// The runs of a row into one, two by two; `from` says where it is then. ends: a number for each run.
Count join_all(Entries& from, Entries& to, Count length, Index* ends) {
  Index runs = 0;
  for (Count at = 1; at < length; ++at)
    if (from.columns[at] <= from.columns[at - 1]) ends[runs++] = Index(at);
  ends[runs++] = Index(length);
  while (runs > 1) {
    Count begin = 0, count = 0;
    Index made = 0;
    for (Index run = 0; run < runs; run += 2) {
      const Count middle = ends[run], end = run + 1 < runs ? ends[run + 1] : middle;
      count += join(from, begin, middle, end, to.from(count));
      ends[made++] = Index(count);
      begin = end;
    }
    runs = made;
    std::swap(from, to);
  }
  return ends[0];
}

// By radix, the lowest digits of the columns first; then what falls together is added.
Count sort_all(Entries& from, Entries& to, Count length, Count p) {
  for (int shift = 0; (p - 1) >> shift; shift += DIGIT) {
    Count places[(1 << DIGIT) + 1] = {};
    constexpr Index LAST = (1 << DIGIT) - 1;
    for (Count at = 0; at < length; ++at) ++places[(from.columns[at] >> shift & LAST) + 1];
    for (Index digit = 0; digit < LAST; ++digit) places[digit + 1] += places[digit];
    for (Count at = 0; at < length; ++at) to.put(places[from.columns[at] >> shift & LAST]++, from, at);
    std::swap(from, to);
  }
  Count last = 0;
  for (Count at = 1; at < length; ++at) {
    const bool same = from.columns[at] == from.columns[last];
    const float sum = (same ? from.values[last] : 0) + from.values[at];
    last += !same;
    from.columns[last] = from.columns[at];
    from.values[last] = sum;
  }
  return last + 1;
}

// Makes a row of products the row of c; its length.
Count combine(const Entries& row, Count length, const Entries& spare, Index* ends, Count p) {
  if (!length) return 0;
  Entries from = row, to = spare;
  const Count found = length < MANY ? join_all(from, to, length, ends) : sort_all(from, to, length, p);
  if (from.columns != row.columns) row.copy(from, found);
  return found;
}

}  // namespace

// How many products there are. starts[m + 1]: where those of a row of c begin; *longest: the most of a row.
extern "C" Count count(const Index* a_starts, const Index* a_columns, const Index* b_starts, Count* starts,
                       Count* longest, Count m) {
  starts[0] = *longest = 0;
  for (Count row = 0; row < m; ++row) {
    Count sum = 0;
    for (Index at = a_starts[row]; at < a_starts[row + 1]; ++at)
      sum += b_starts[a_columns[at] + 1] - b_starts[a_columns[at]];
    starts[row + 1] = starts[row] + sum;
    *longest = std::max(*longest, sum);
  }
  return starts[m];
}

// a by columns: starts[k + 1], rows and values. Then every product, into the rows of c. ends: m numbers.
extern "C" void multiply(const Index* a_starts, const Index* a_columns, const float* a_values,
                         const Index* b_starts, const Index* b_columns, const float* b_values, Index* starts,
                         Index* rows, float* values, const Count* c_starts, Count* ends, Index* c_columns,
                         float* c_values, Count m, Count k, int threads) {
  std::fill_n(starts, k + 1, 0);
  for (Index at = 0; at < a_starts[m]; ++at) ++starts[a_columns[at] + 1];
  for (Count column = 0; column < k; ++column) starts[column + 1] += starts[column];
  for (Count row = 0; row < m; ++row)
    for (Index at = a_starts[row]; at < a_starts[row + 1]; ++at) {
      const Index to = starts[a_columns[at]]++;
      rows[to] = Index(row);
      values[to] = a_values[at];
    }
  std::copy_backward(starts, starts + k, starts + k + 1);  // each had moved to the start of the next
  starts[0] = 0;
  std::copy_n(c_starts, m, ends);
#pragma omp parallel for num_threads(threads) schedule(dynamic, FEW)
  for (Count inner = 0; inner < k; ++inner) {
    const Index* columns = b_columns + b_starts[inner];
    const float* factors = b_values + b_starts[inner];
    const Index length = b_starts[inner + 1] - b_starts[inner];
    for (Index at = starts[inner]; at < starts[inner + 1]; ++at) {
      Count place;
#pragma omp atomic capture
      {
        place = ends[rows[at]];
        ends[rows[at]] += length;
      }
      std::copy_n(columns, length, c_columns + place);
      for (Index step = 0; step < length; ++step) c_values[place + step] = values[at] * factors[step];
    }
  }
}

// Makes each row what it is in c, where it stands; starts[m + 1]: of c. The number of c's nonzeros.
// spare: `longest` entries for each thread; ends: MANY for each.
extern "C" Count merge(const Count* products, Index* columns, float* values, Count* starts,
                       Index* spare_columns, float* spare_values, Index* ends, Count longest, Count m,
                       Count p, int threads) {
#pragma omp parallel num_threads(threads)
  {
    const Entries spare = Entries{spare_columns, spare_values}.from(thread_number() * longest);
#pragma omp for schedule(dynamic, FEW)
    for (Count row = 0; row < m; ++row)
      starts[row + 1] = combine(Entries{columns, values}.from(products[row]),
                                products[row + 1] - products[row], spare, ends + thread_number() * MANY, p);
  }
  starts[0] = 0;
  for (Count row = 0; row < m; ++row) starts[row + 1] += starts[row];
  return starts[m];
}

extern "C" void place(const Count* products, Index* columns, float* values, const Count* starts,
                      Index* c_columns, float* c_values, Count m, int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, FEW)
  for (Count row = 0; row < m; ++row)
    Entries{c_columns, c_values}
        .from(starts[row])
        .copy(Entries{columns, values}.from(products[row]), starts[row + 1] - starts[row]);
}
