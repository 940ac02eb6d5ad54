// Compressed rows into tiled rows; what they are is said in tiled.py. Two passes over the columns: count the
// segments of every tile of every chunk, then fill them in, longest first.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "segments.h"

namespace {

constexpr std::int64_t LONGEST = 65535;  // nonzeros of a segment; a longer one is cut

struct Cut {
  Segment segment;
  std::int64_t tile, from;

  // What begins sums before what goes on, and that before what ends them; then the longest first.
  int rank() const {
    if (segment.piece & FIRST) return segment.piece & LAST ? 1 : 0;
    return segment.piece & LAST ? 3 : 2;
  }
};

// The segments of a piece of a row, in the order of its columns; one without nonzeros has an empty one.
void cut(const std::int32_t* columns, std::int64_t from, std::int64_t to, std::int64_t depth,
         std::uint16_t piece, std::vector<Cut>& into) {
  const std::size_t before = into.size();
  while (from < to) {
    const std::int64_t tile = columns[from] / depth, beyond = (tile + 1) * depth;
    std::int64_t end = from + 1;
    while (end < to && columns[end] < beyond) ++end;
    for (; from < end; from = std::min(end, from + LONGEST))
      into.push_back({{piece, std::uint16_t(std::min(LONGEST, end - from))}, tile, from});
  }
  if (into.size() == before) into.push_back({{piece, 0}, 0, from});
  into[before].segment.piece |= FIRST;
  into.back().segment.piece |= LAST;
}

template <class Column>
void fill(const std::int64_t* pieces, const std::int32_t* columns, const char* values, int width,
          const std::int64_t* edges, std::int64_t chunks, std::int64_t depth, std::int64_t tiles,
          const std::int64_t* segment_starts, Segment* segments, Column* local, char* moved, int threads) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    std::vector<Cut> cuts;
    for (std::int64_t piece = edges[chunk]; piece < edges[chunk + 1]; ++piece)
      cut(columns, pieces[piece], pieces[piece + 1], depth, std::uint16_t(piece - edges[chunk]), cuts);
    std::sort(cuts.begin(), cuts.end(), [](const Cut& one, const Cut& other) {
      if (one.tile != other.tile) return one.tile < other.tile;
      if (one.rank() != other.rank()) return one.rank() < other.rank();
      if (one.segment.length != other.segment.length) return one.segment.length > other.segment.length;
      return one.from < other.from;
    });
    std::int64_t at = pieces[edges[chunk]];
    Segment* segment = segments + segment_starts[chunk * tiles];
    for (const Cut& one : cuts) {
      *segment++ = one.segment;
      std::memcpy(moved + at * width, values + one.from * width, std::size_t(one.segment.length) * width);
      const std::int64_t base = one.tile * depth;
      for (std::int64_t i = 0; i < one.segment.length; ++i) local[at + i] = Column(columns[one.from + i] - base);
      at += one.segment.length;
    }
  }
}

}  // namespace

// counts[chunk * tiles + tile]: how many segments it has.
extern "C" void count(const std::int64_t* pieces, const std::int32_t* columns, const std::int64_t* edges,
                      std::int64_t chunks, std::int64_t depth, std::int64_t tiles, std::int64_t* counts,
                      int threads) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    std::vector<Cut> cuts;
    for (std::int64_t piece = edges[chunk]; piece < edges[chunk + 1]; ++piece)
      cut(columns, pieces[piece], pieces[piece + 1], depth, 0, cuts);
    for (const Cut& one : cuts) ++counts[chunk * tiles + one.tile];
  }
}

extern "C" void fill_uint16(const std::int64_t* pieces, const std::int32_t* columns, const char* values, int width,
                            const std::int64_t* edges, std::int64_t chunks, std::int64_t depth,
                            std::int64_t tiles, const std::int64_t* segment_starts, Segment* segments,
                            std::uint16_t* local, char* moved, int threads) {
  fill(pieces, columns, values, width, edges, chunks, depth, tiles, segment_starts, segments, local, moved, threads);
}

extern "C" void fill_int32(const std::int64_t* pieces, const std::int32_t* columns, const char* values, int width,
                           const std::int64_t* edges, std::int64_t chunks, std::int64_t depth, std::int64_t tiles,
                           const std::int64_t* segment_starts, Segment* segments, std::int32_t* local,
                           char* moved, int threads) {
  fill(pieces, columns, values, width, edges, chunks, depth, tiles, segment_starts, segments, local, moved, threads);
}
