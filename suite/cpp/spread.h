// SPREAD(instruction, register, mask): the next values of the register where a bit is set, 0 elsewhere.
//
// In a register that has just been loaded: AMD's processors wait for what the destination held before.

#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>

#define SPREAD(INSTRUCTION, REGISTER, MASK) \
  asm(INSTRUCTION " %0, %0 %{%1%}%{z%}" : "+v"(REGISTER) : "Yk"(MASK))
#endif
