// Entries of compressed rows: columns, and beside them values.

#pragma once

#include <algorithm>
#include <cstdint>

namespace {

using Index = std::int32_t;
using Count = std::int64_t;

struct Entries {
  Index* columns;
  float* values;

  Entries from(Count at) const { return {columns + at, values + at}; }

  void put(Count at, const Entries& other, Count from) const {
    columns[at] = other.columns[from];
    values[at] = other.values[from];
  }

  void copy(const Entries& other, Count count) const {
    std::copy_n(other.columns, count, columns);
    std::copy_n(other.values, count, values);
  }
};

}  // namespace
