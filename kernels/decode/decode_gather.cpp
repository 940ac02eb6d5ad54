// out[n, h, d] = softmax(q k^T / sqrt(d)) v over some pages of a cache, or all of it.

#include <cstdint>

#include "attend.h"

namespace {

// A cache as it is: rows lie where they lie, and are fetched before they are wanted.
template <class Number>
struct Plain {
  static constexpr bool FETCHES = true;
  const Plan& plan;

  explicit Plain(const Plan& plan) : plan(plan) {}

  void find(std::int64_t group, Chunk<Number>& chunk) const {
    const auto k = static_cast<const Number*>(plan.k), v = static_cast<const Number*>(plan.v);
    for (int i = 0; i < CHUNK; ++i) {
      const std::int64_t token = group * plan.there + chunk.tokens[i < chunk.count ? i : 0];
      chunk.keys[i] = k + token * plan.d, chunk.values[i] = v + token * plan.d;
    }
  }
  const Number* const* keys(const Chunk<Number>& chunk) const { return chunk.keys; }
  const Number* const* values(const Chunk<Number>& chunk) const { return chunk.values; }
};

}  // namespace

extern "C" void decode_float32(const Plan* plan, const float* q, float* out) {
  attend(*plan, Plain<float>(*plan), q, out);
}

extern "C" void decode_bfloat16(const Plan* plan, const bfloat16* q, bfloat16* out) {
  attend(*plan, Plain<bfloat16>(*plan), q, out);
}

extern "C" std::int64_t split() { return SPLIT; }
