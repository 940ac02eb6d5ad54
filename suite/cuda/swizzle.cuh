// Tiles in shared memory as the tensor cores of sm_90a read them: lines of 128 bytes, swizzled.
//
// A line's eight chunks of 16 bytes change places by the line's number, so that whoever reads a column of chunks finds
// them in different banks. Hardware works it out from addresses, bits 4 to 6 xor bits 7 to 9: so a tile begins at a
// multiple of 1024 bytes.
#ifndef SPARSEMARK_SWIZZLE
#define SPARSEMARK_SWIZZLE

constexpr int LINE = 64;              // numbers of 16 bits in a line
constexpr int EIGHT_LINES = 8 * 128;  // bytes after which the pattern repeats

// Where chunk `chunk` of line `line` of a tile belongs: numbers of 16 bits from the tile's beginning.
__device__ __forceinline__ int swizzled(int line, int chunk) { return line * LINE + (chunk ^ line % 8) * 8; }

// What wgmma is told of a matrix in such a tile: where it begins in shared memory, and two strides, all in bytes.
// Numbers that lie along k: stride is from eight rows to the next, and leading is not looked at.
// Numbers that lie along n: stride is from eight rows of k to the next, leading from 64 columns to the next.
__device__ __forceinline__ unsigned long long descriptor(unsigned address, unsigned leading, unsigned stride) {
  constexpr unsigned long long SWIZZLED_128 = 1ull << 62;
  return (address & 0x3ffff) >> 4 | (unsigned long long)(leading >> 4) << 16 | (unsigned long long)(stride >> 4) << 32 |
         SWIZZLED_128;
}

#endif
