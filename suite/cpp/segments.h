// Segments of tiled rows (suite/formats/tiled.py): what of a piece of a row is in one tile.

#pragma once

#include <cstdint>

namespace {

struct Segment {
  std::uint16_t piece, length;  // of a chunk, with FIRST and LAST; nonzeros
};

constexpr std::uint16_t FIRST = 1 << 15, LAST = 1 << 14;  // whether it begins the piece's sums, or ends them

}  // namespace
