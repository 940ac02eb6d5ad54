// c = a @ b by inner products: every row of a meets every column of b.
//
// `columns` brings b into columns, and these into bitmaps; `symbolic` finds which pairs have something in
// common, and `numeric` sums it up.

#include <algorithm>
#include <cstdint>

#include "entries.h"
#include "threads.h"

namespace {

using Word = std::uint64_t;

constexpr int BITS = 64;
constexpr int BLOCK = 8;         // words that are looked at together: a cache line
constexpr Count TILE = 1 << 18;  // bytes of columns that all rows meet before any meets others: L2 holds them

Count words_of(Count size) { return (size + BITS * BLOCK - 1) / (BITS * BLOCK) * BLOCK; }

// A row of a as a thread has it open: its bits, the blocks that have any, and, zeros in place, its values.
struct Row {
  const Index *first = nullptr, *last = nullptr;
  Word* bits;
  Index* blocks;
  float* dense;
  Index count = 0;

  Row(char* desk, Count k)
      : bits(reinterpret_cast<Word*>(desk)),
        blocks(reinterpret_cast<Index*>(bits + words_of(k))),
        dense(reinterpret_cast<float*>(blocks + words_of(k))) {}

  static Count bytes(Count k) { return words_of(k) * (sizeof(Word) + sizeof(Index) + BITS * sizeof(float)); }

  void open(const Index* columns, const float* values, Index length) {
    close();
    first = columns, last = columns + length;
    for (Index at = 0; at < length; ++at) {
      const Index word = columns[at] / BITS, block = word / BLOCK;
      if (!count || blocks[count - 1] != block) {
        blocks[count++] = block;
        std::fill_n(bits + block * BLOCK, BLOCK, Word(0));
      }
      bits[word] |= Word(1) << columns[at] % BITS;
      dense[columns[at]] = values[at];
    }
  }

  void close() {
    for (; first < last; ++first) dense[*first] = 0;
    count = 0;
  }

  // After how many blocks something in common with a column is found; one more than there are, if nothing is.
  Index search(const Word* column) const {
    for (Index at = 0; at < count; ++at) {
      const Index from = blocks[at] * BLOCK;
      Word common = 0;
      for (Index word = from; word < from + BLOCK; ++word) common |= bits[word] & column[word];
      if (common) return at + 1;
    }
    return count + 1;
  }

  float multiply(const Index* rows, const float* values, Index length) const {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (Index at = 0; at < length; ++at) sum += dense[rows[at]] * values[at];
    return sum;
  }
};

}  // namespace

extern "C" Count words_for(Count size) { return words_of(size); }
extern "C" Count desk_bytes(Count k) { return Row::bytes(k); }

// b by columns: starts[p + 1], rows and values; bits[p, words].
extern "C" void columns(const Index* b_starts, const Index* b_columns, const float* b_values, Index* starts,
                        Index* rows, float* values, Word* bits, Count k, Count p, int threads) {
  const Count words = words_of(k);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (Count word = 0; word < p * words; ++word) bits[word] = 0;
  std::fill_n(starts, p + 1, 0);
  for (Index at = 0; at < b_starts[k]; ++at) ++starts[b_columns[at] + 1];
  for (Count column = 0; column < p; ++column) starts[column + 1] += starts[column];
  for (Count row = 0; row < k; ++row)
    for (Index at = b_starts[row]; at < b_starts[row + 1]; ++at) {
      const Index column = b_columns[at], to = starts[column]++;
      rows[to] = Index(row);
      values[to] = b_values[at];
      bits[column * words + row / BITS] |= Word(1) << row % BITS;
    }
  std::copy_backward(starts, starts + p, starts + p + 1);  // each had moved to the start of the next
  starts[0] = 0;
}

// The bits of c and its starts; the number of its nonzeros. *blocks: how many were looked at, on each side.
extern "C" Count symbolic(const Index* a_starts, const Index* a_columns, const float* a_values,
                          const Word* bits, Word* c_bits, Count* c_starts, char* desks, Count* blocks,
                          Count m, Count k, Count p, int threads) {
  const Count words = words_of(k), c_words = words_of(p);
  const Count tile = std::max<Count>(1, TILE / (words * Count(sizeof(Word)) * BITS)) * BITS;
  Count looked = 0;
#pragma omp parallel num_threads(threads) reduction(+ : looked)
  {
    Row row(desks + thread_number() * Row::bytes(k), k);
#pragma omp for schedule(static)
    for (Count word = 0; word < m * c_words; ++word) c_bits[word] = 0;
    for (Count first = 0; first < p; first += tile) {
#pragma omp for schedule(dynamic, 16)
      for (Count i = 0; i < m; ++i) {
        row.open(a_columns + a_starts[i], a_values + a_starts[i], a_starts[i + 1] - a_starts[i]);
        for (Count j = first; j < std::min(p, first + tile); ++j) {
          const Index found = row.search(bits + j * words);
          looked += std::min(found, row.count);
          c_bits[i * c_words + j / BITS] |= Word(found <= row.count) << j % BITS;
        }
      }
    }
    row.close();
#pragma omp for schedule(static)
    for (Count i = 0; i < m; ++i) {
      c_starts[i + 1] = 0;
      for (Count word = i * c_words; word < (i + 1) * c_words; ++word)
        c_starts[i + 1] += __builtin_popcountll(c_bits[word]);
    }
  }
  c_starts[0] = 0;
  for (Count i = 0; i < m; ++i) c_starts[i + 1] += c_starts[i];
  *blocks = looked;
  return c_starts[m];
}

// The columns and values of c; how many multiplications that took, those by zero among them.
extern "C" Count numeric(const Index* a_starts, const Index* a_columns, const float* a_values,
                         const Index* starts, const Index* rows, const float* values, const Word* c_bits,
                         const Count* c_starts, Index* c_columns, float* c_values, char* desks, Count m,
                         Count k, Count p, int threads) {
  const Count c_words = words_of(p);
  Count products = 0;
#pragma omp parallel num_threads(threads) reduction(+ : products)
  {
    Row row(desks + thread_number() * Row::bytes(k), k);
#pragma omp for schedule(dynamic, 16)
    for (Count i = 0; i < m; ++i) {
      row.open(a_columns + a_starts[i], a_values + a_starts[i], a_starts[i + 1] - a_starts[i]);
      Count at = c_starts[i];
      for (Count word = 0; word < c_words; ++word)
        for (Word left = c_bits[i * c_words + word]; left; left &= left - 1, ++at) {
          const Count j = word * BITS + __builtin_ctzll(left);
          const Index length = starts[j + 1] - starts[j];
          c_columns[at] = Index(j);
          c_values[at] = row.multiply(rows + starts[j], values + starts[j], length);
          products += length;
        }
    }
    row.close();
  }
  return products;
}
