// bfloat16: the upper half of a float.
//
// Here and in the other headers everything is in a namespace without a name. Libraries that were compiled
// with different flags meet in one process, and none may take another's code for its own.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

struct bfloat16 {
  std::uint16_t bits;
};

inline float widen(float value) { return value; }

inline float widen(bfloat16 value) {
  const std::uint32_t bits = std::uint32_t(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, 4);
  return wide;
}

inline void narrow(float value, float* out) { *out = value; }

inline void narrow(float value, bfloat16* out) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  out->bits = nan ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
}

}  // namespace
