// out[n, d] = the sum over a token's experts of gate * down(silu(gate x) * (up x)), on registers.

#include <cstdint>

#include "moe_experts.h"
#include "moe_registers.h"

extern "C" void pack_float32(const Plan* plan, const float* up, const float* down) {
  pack<Singles>(*plan, up, down);
}

extern "C" void pack_bfloat16(const Plan* plan, const bfloat16* up, const bfloat16* down) {
  pack<Halves>(*plan, up, down);
}

extern "C" void moe_float32(const Plan* plan, const float* x, const float* logits, float* out) {
  answer<Singles>(*plan, x, logits, out);
}

extern "C" void moe_bfloat16(const Plan* plan, const bfloat16* x, const bfloat16* logits, bfloat16* out) {
  answer<Halves>(*plan, x, logits, out);
}

extern "C" void sizes(const Plan* plan, int bfloat16s, Sizes* to) {
  *to = bfloat16s ? sizes<Halves>(*plan) : sizes<Singles>(*plan);
}
