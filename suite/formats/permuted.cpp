// Rows that meet much the same things become neighbours, by MinHash: no pair is compared without a reason.
//
// A signature is the least hash of a set under each of 32 hash functions. Two sets agree in one with the
// chance of their Jaccard similarity, and the signature of a union is the lane-by-lane minimum (Broder, "On
// the Resemblance and Containment of Documents", SEQUENCES 1997). So groups have signatures too, and grow by
// merging. The order depends on the seed alone, not on the number of threads.

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace {

constexpr int HASHES = 32;
constexpr int PASSES = 16;  // over the groups, sorted by another hash each time
constexpr int STRICT = 24;  // hashes that must agree in the first pass; in the last, one is enough
constexpr int WINDOW = 32;  // neighbours in sorted order that a group looks at
constexpr std::int64_t STRETCH = 4096;  // neighbours in sorted order that are one thread's

using Signature = std::array<std::uint32_t, HASHES>;
using Key = std::pair<std::uint64_t, std::int32_t>;  // a hash, and the row that leads the group

inline std::uint32_t mix(std::uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

struct Hashes {
  Signature flip, factor;

  explicit Hashes(std::uint32_t seed) {
    for (int i = 0; i < HASHES; ++i) {
      flip[i] = mix(mix(seed) + 2 * i);
      factor[i] = mix(mix(seed) + 2 * i + 1) | 1;
    }
  }

  void add(std::uint32_t item, Signature& least) const {
    const std::uint32_t mixed = mix(item + 1);
    for (int i = 0; i < HASHES; ++i) least[i] = std::min(least[i], (mixed ^ flip[i]) * factor[i]);
  }
};

inline int alike(const Signature& one, const Signature& other) {
  int same = 0;
  for (int i = 0; i < HASHES; ++i) same += one[i] == other[i];
  return same;
}

inline std::uint64_t digest(const Signature& signature) {
  std::uint64_t made = 0;
  for (const std::uint32_t hash : signature) made = (made ^ hash) * 0x9e3779b97f4a7c15u, made ^= made >> 29;
  return made;
}

// Disjoint groups of rows, each known by the row that leads it.
struct Groups {
  std::int64_t most;  // rows of a group
  std::vector<Signature> signature;
  std::vector<std::int32_t> rows, next, last;  // how many, 0 where it leads none; lists that end with -1

  Groups(std::int64_t m, std::int64_t most) : most(most), signature(m), rows(m, 1), next(m, -1), last(m) {
    for (std::int64_t row = 0; row < m; ++row) last[row] = std::int32_t(row);
  }

  bool fit(std::int32_t one, std::int32_t other) const {
    return rows[one] && rows[other] && rows[one] + rows[other] <= most;
  }

  void merge(std::int32_t into, std::int32_t from) {
    for (int i = 0; i < HASHES; ++i) signature[into][i] = std::min(signature[into][i], signature[from][i]);
    rows[into] += rows[from];
    rows[from] = 0;
    next[last[into]] = from;
    last[into] = last[from];
  }
};

// By radix, 16 bits at a time.
void sort(std::vector<Key>& keys) {
  std::vector<Key> sorted(keys.size());
  std::vector<std::int64_t> ends(1 << 16);
  for (int shift = 0; shift < 64; shift += 16) {
    const auto digit = [&](const Key& key) { return key.first >> shift & 0xffff; };
    std::fill(ends.begin(), ends.end(), 0);
    for (const Key& key : keys) ++ends[digit(key)];
    std::int64_t sum = 0;
    for (std::int64_t& end : ends) sum += std::exchange(end, sum);
    for (const Key& key : keys) sorted[ends[digit(key)]++] = key;
    keys.swap(sorted);
  }
}

// Rows that are the same in every hash, and so most likely the same.
void join_equal(Groups& groups, int threads) {
  std::vector<Key> keys(groups.rows.size());
#pragma omp parallel for num_threads(threads)
  for (std::size_t row = 0; row < keys.size(); ++row) keys[row] = {digest(groups.signature[row]), row};
  sort(keys);
  for (std::size_t first = 0, at = 1; at < keys.size(); ++at)
    if (keys[at].first == keys[first].first && groups.fit(keys[first].second, keys[at].second))
      groups.merge(keys[first].second, keys[at].second);
    else
      first = at;
}

// Each group that is not full takes, again and again, the most similar of those after it.
void join_alike(Groups& groups, int pass, int threads) {
  const int least = std::max(1, STRICT * (PASSES - pass) / PASSES);
  const int high = pass % HASHES, low = (pass + HASHES / 2) % HASHES;
  std::vector<Key> keys;
  for (std::size_t row = 0; row < groups.rows.size(); ++row)
    if (groups.rows[row] && groups.rows[row] < groups.most) {
      const Signature& of = groups.signature[row];
      keys.push_back({std::uint64_t(of[high]) << 32 | of[low], row});
    }
  sort(keys);
  const std::int64_t count = keys.size();
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t from = 0; from < count; from += STRETCH) {
    const std::int64_t to = std::min(from + STRETCH, count);
    for (std::int64_t at = from; at < to; ++at) {
      const std::int32_t lead = keys[at].second;
      for (std::int32_t taken = lead; taken >= 0;) {
        int most = least - 1;
        taken = -1;
        for (std::int64_t near = at + 1; near < std::min(at + 1 + WINDOW, to); ++near) {
          const std::int32_t other = keys[near].second;
          if (!groups.fit(lead, other)) continue;
          const int same = alike(groups.signature[lead], groups.signature[other]);
          if (same > most) most = same, taken = other;
        }
        if (taken >= 0) groups.merge(lead, taken);
      }
    }
  }
}

// What is left fills up gaps, the largest first: a group that is not full shifts all that come after it.
void fill_gaps(Groups& groups) {
  std::vector<std::vector<std::int32_t>> sized(groups.most + 1), with_gap(groups.most + 1);
  for (std::size_t row = 0; row < groups.rows.size(); ++row)
    sized[groups.rows[row]].push_back(std::int32_t(row));
  for (std::int64_t rows = groups.most - 1; rows > 0; --rows)
    for (const std::int32_t lead : sized[rows]) {
      std::int64_t gap = rows;
      while (gap < groups.most && with_gap[gap].empty()) ++gap;
      if (gap == groups.most) {
        with_gap[gap - rows].push_back(lead);
      } else {
        const std::int32_t into = with_gap[gap].back();
        with_gap[gap].pop_back();
        groups.merge(into, lead);
        with_gap[gap - rows].push_back(into);
      }
    }
}

}  // namespace

// order[m]: rows, those of a group next to each other and full groups first, else as they came. Rows meet
// items, or labels of items where there are any; repeated, a label that is met again is met once more.
extern "C" void cluster(const std::int64_t* starts, const std::int32_t* items, const std::int32_t* labels,
                        std::int64_t m, std::int64_t size, std::int64_t repeated, std::int64_t seed,
                        std::int64_t threads, std::int32_t* order) {
  Groups groups(m, size);
  const Hashes hashes{std::uint32_t(seed)};
#pragma omp parallel for schedule(dynamic, 256) num_threads(threads)
  for (std::int64_t row = 0; row < m; ++row) {
    Signature& least = groups.signature[row];
    least.fill(~0u);
    std::uint32_t before = ~0u, times = 0;
    for (std::int64_t at = starts[row]; at < starts[row + 1]; ++at) {
      const std::uint32_t label = labels ? labels[items[at]] : items[at];
      times = repeated && label == before ? times + 1 : 0;
      if (times || label != before) hashes.add(mix(label) + times, least);
      before = label;
    }
  }
  join_equal(groups, threads);
  for (int pass = 0; pass < PASSES; ++pass) join_alike(groups, pass, threads);
  fill_gaps(groups);
  std::int32_t* to = order;
  for (const bool full : {true, false})
    for (std::int64_t row = 0; row < m; ++row)
      if (groups.rows[row] && full == (groups.rows[row] == size)) {
        std::int32_t* first = to;
        for (std::int64_t one = row; one >= 0; one = groups.next[one]) *to++ = std::int32_t(one);
        std::sort(first, to);
      }
}

// Blocks that hold a nonzero: of `height` rows in this order, and of columns with one label, all below `most`.
extern "C" std::int64_t count(const std::int64_t* starts, const std::int32_t* columns,
                              const std::int32_t* order, const std::int32_t* labels, std::int64_t m,
                              std::int64_t most, std::int64_t height, std::int64_t threads) {
  std::int64_t total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
  {
    std::vector<std::int64_t> met(most, -1);  // the last group of rows that met the label
#pragma omp for schedule(dynamic, 64)
    for (std::int64_t group = 0; group < (m + height - 1) / height; ++group)
      for (std::int64_t i = group * height; i < std::min(m, (group + 1) * height); ++i)
        for (std::int64_t at = starts[order[i]]; at < starts[order[i] + 1]; ++at)
          total += std::exchange(met[labels[columns[at]]], group) != group;
  }
  return total;
}

// The columns as rows: items are the groups of `height` rows that a column meets. ends[k + 1] comes as zeros.
extern "C" void transpose(const std::int64_t* starts, const std::int32_t* columns, const std::int32_t* order,
                          std::int64_t m, std::int64_t k, std::int64_t height, std::int64_t* ends,
                          std::int32_t* items) {
  for (std::int64_t at = 0; at < starts[m]; ++at) ++ends[columns[at] + 1];
  for (std::int64_t column = 0; column < k; ++column) ends[column + 1] += ends[column];
  std::vector<std::int64_t> to(ends, ends + k);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t at = starts[order[i]]; at < starts[order[i] + 1]; ++at)
      items[to[columns[at]]++] = std::int32_t(i / height);
}

// Compressed rows in another order: new columns, ascending within each row, and where each entry stood.
extern "C" void permute(const std::int64_t* starts, const std::int32_t* columns, const std::int32_t* order,
                        const std::int32_t* places, std::int64_t m, std::int64_t threads,
                        const std::int64_t* to, std::int32_t* to_columns, std::int64_t* from) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<std::pair<std::int32_t, std::int64_t>> row;
#pragma omp for schedule(dynamic, 256)
    for (std::int64_t i = 0; i < m; ++i) {
      row.clear();
      for (std::int64_t at = starts[order[i]]; at < starts[order[i] + 1]; ++at)
        row.push_back({places[columns[at]], at});
      std::sort(row.begin(), row.end());
      for (std::size_t at = 0; at < row.size(); ++at) {
        to_columns[to[i] + at] = row[at].first;
        from[to[i] + at] = row[at].second;
      }
    }
  }
}
