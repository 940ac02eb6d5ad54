// CUDA C++ on the host: a kernel's source, unchanged, as a function that runs block after block and checks as it goes.
//
// The threads of a block are fibers. One runs until it waits for others; then the first that can go on does, in an
// order that the caller chooses, so a warp gets as far ahead of the rest as barriers let it. Whatever all lanes of a
// warp do together is a meeting: each leaves what it brings, and takes what it is due once all are there.
//
// What a GPU would forgive, or only sometimes punish, is an end in words here: lanes at different instructions, a
// thread that never comes, an address beyond a buffer or off its alignment. Shared memory starts as NaN. A copy that
// is under way is NaN too, until its thread waits for it, which is the latest that hardware allows.
//
// Tensor cores are written from the PTX ISA's tables of fragments, not from what the kernels make of them. Those that a
// warpgroup feeds from shared memory see of it what was fenced for them alone. They read their operands when the first
// warp issues a product and again when each warp waits for it, and both must be the same; meanwhile the sums are NaN.
#pragma once

#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

#define SPARSEMARK_TENSOR_CORE  // the real ones have nothing to say here
#define SPARSEMARK_WARPGROUP

#define __global__
#define __device__
#define __host__
#define __shared__  // dynamic shared memory alone is emulated: `extern __shared__ ... shared[]`
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct int2 { int x, y; } __attribute__((aligned(8)));
struct uint2 { unsigned x, y; } __attribute__((aligned(8)));
struct uint4 { unsigned x, y, z, w; } __attribute__((aligned(16)));
struct int4 { int x, y, z, w; } __attribute__((aligned(16)));
struct float2 { float x, y; } __attribute__((aligned(8)));
struct float4 { float x, y, z, w; } __attribute__((aligned(16)));
struct dim3 { unsigned x, y, z; };

inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }

template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }
template <class T> T __ldg(const T* at) { return *at; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace host {

constexpr int WARP = 32, GROUP = 128, STACK = 1 << 17, MOST = 1024;
constexpr int WIDEST = 256;  // columns of a warpgroup's product
constexpr size_t SHARED = 227 << 10, BEYOND = 1 << 12;
constexpr unsigned char POISON = 0xff;  // NaN in every width, and no address
constexpr unsigned WINDOW = 1 << 10;    // where a block's shared memory begins in the addresses of shared memory

}  // namespace host

__attribute__((aligned(1024))) unsigned char shared[host::SHARED + host::BEYOND];

namespace host {

struct Report {
  long long flops;  // that tensor cores did
  char said[512];   // what went wrong
};

struct Copy {
  void* to;
  const void* from;
  bool there;
};

struct Product {  // of a warpgroup, 64 x 16 by 16 x columns
  unsigned long long a, b;
  int columns;
  bool brain;
  unsigned short read[64 + WIDEST][16];  // `a` by rows, then `b` by columns
  float wide[64 + WIDEST][16];           // the same
};

struct Meeting {
  const char* what = nullptr;
  unsigned arrived = 0, round = 0;
};

struct Fiber {
  ucontext_t context;
  jmp_buf where;
  bool started, done;
  Meeting* waits;
  unsigned round;
  std::vector<Copy> open;
  std::deque<std::vector<Copy>> groups;
  std::vector<const void*> written;  // sixteen bytes each, which tensor cores do not see yet
  float* sums;                       // of products under way, or none
  float held[WIDEST / 2];            // what they will be
  bool fenced;                       // since they last were the thread's own
  size_t issued, finished;           // products of its warpgroup
  std::vector<size_t> ends;          // of its groups: how many were issued by then
};

union Slot {  // what a lane brings to a meeting
  const void* row;
  unsigned words[9];
};

struct Warp {
  Meeting meeting;
  unsigned round;
  Slot slots[2][WARP];  // in turn: a lane may be at the next meeting before the last has taken what it is due
};

Report* report;
Fiber fibers[MOST];
Warp warps[MOST / WARP];
std::deque<Product> products[MOST / GROUP];  // of each warpgroup, from the first
unsigned char seen[SHARED];                  // shared memory, as its tensor cores see it
Meeting block;
jmp_buf scheduler;
unsigned current, threads;
size_t shared_bytes;
void (*body)();

[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...) {
  char* to = report->said;
  to += snprintf(to, 64, "block (%u, %u, %u), thread %u: ", blockIdx.x, blockIdx.y, blockIdx.z, current);
  va_list rest;
  va_start(rest, format);
  vsnprintf(to, report->said + sizeof report->said - to, format, rest);
  _exit(1);
}

void struck(int signal, siginfo_t* about, void*) {
  const bool address = signal == SIGSEGV || signal == SIGBUS;
  fail(address ? "%s at %p" : "%s", address ? "touches memory that it was not given" : "does what C++ leaves undefined",
       about->si_addr);
}

void yield() {
  if (!_setjmp(fibers[current].where)) _longjmp(scheduler, 1);
}

void meet(Meeting& at, unsigned size, const char* what) {
  if (at.arrived && strcmp(at.what, what)) fail("is at %s while others wait at %s", what, at.what);
  at.what = what;
  Fiber& own = fibers[current];
  own.round = at.round, own.waits = &at;
  if (++at.arrived == size) at.arrived = 0, ++at.round;
  yield();
  own.waits = nullptr;
}

inline unsigned lane() { return current % WARP; }

// All lanes bring something; each then sees what all of them brought.
inline const Slot* exchange(const Slot& brought, const char* what) {
  Warp& own = warps[current / WARP];
  Slot* slots = own.slots[own.meeting.round % 2];
  slots[lane()] = brought;
  meet(own.meeting, WARP, what);
  return slots;
}

const unsigned char* in_shared(const void* at, size_t bytes, const char* what) {
  const unsigned char* byte = static_cast<const unsigned char*>(at);
  if (byte < shared || byte + bytes > shared + shared_bytes) fail("%s beyond its %zu shared bytes", what, shared_bytes);
  if (reinterpret_cast<uintptr_t>(at) % bytes) fail("%s off its alignment", what);
  return byte;
}

void run() {
  body();
  fibers[current].done = true;
  _longjmp(scheduler, 1);
}

void resume(unsigned thread) {
  Fiber& to = fibers[thread];
  current = thread;
  threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
  if (_setjmp(scheduler)) return;
  if (to.started) _longjmp(to.where, 1);
  to.started = true;
  setcontext(&to.context);
}

void run_block(const std::vector<unsigned>& order, unsigned char* stacks) {
  memset(shared, POISON, shared_bytes + BEYOND), memset(seen, POISON, sizeof seen);
  block = {};
  for (auto& each : products) each.clear();
  for (unsigned at = 0; at < threads; ++at) {
    Fiber& one = fibers[at];
    one.started = one.done = false, one.waits = nullptr;
    one.open.clear(), one.groups.clear(), one.written.clear();
    one.sums = nullptr, one.fenced = false, one.issued = one.finished = 0, one.ends.clear();
    getcontext(&one.context);
    one.context.uc_stack = {.ss_sp = stacks + size_t(at) * STACK, .ss_flags = 0, .ss_size = STACK};
    makecontext(&one.context, run, 0);
    warps[at / WARP].meeting = {};
  }
  volatile unsigned left = threads;
  while (left) {
    unsigned next = threads;
    for (unsigned at : order)
      if (!fibers[at].done && !(fibers[at].waits && fibers[at].waits->round == fibers[at].round)) {
        next = at;
        break;
      }
    if (next == threads) {
      for (unsigned at : order)
        if (!fibers[at].done) current = at;
      fail("waits at %s for threads that never come", fibers[current].waits->what);
    }
    resume(next);
    if (fibers[next].done) --left;
  }
  for (current = 0; current < threads; ++current) {
    if (fibers[current].sums) fail("ends while wgmma is under way");
    if (fibers[current].issued != products[current / GROUP].size()) fail("misses a wgmma of its warpgroup");
  }
  for (size_t at = 0; at < BEYOND; ++at)
    if (shared[shared_bytes + at] != POISON) fail("somebody wrote %zu bytes past shared memory", at);
}

float number(unsigned short bits, bool brain) {
  if (brain) {
    const unsigned wide = unsigned(bits) << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
  }
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float size = exponent == 31 ? (fraction ? __builtin_nanf("") : __builtin_inff())
                     : exponent     ? __builtin_ldexpf(float(1024 + fraction), exponent - 25)
                                    : __builtin_ldexpf(float(fraction), -24);
  return bits >> 15 ? -size : size;
}

// Element (row, column) of a 16 x 16 fragment `a`, and (row, column) of `b`, whose registers are words 4 on.
unsigned short a_of(const Slot* slots, int row, int column) {
  const unsigned word = slots[row % 8 * 4 + column % 8 / 2].words[row / 8 + 2 * (column / 8)];
  return static_cast<unsigned short>(column % 2 ? word >> 16 : word);
}

unsigned short b_of(const Slot* slots, int row, int column) {
  const unsigned word = slots[column * 4 + row % 8 / 2].words[4 + row / 8];
  return static_cast<unsigned short>(row % 2 ? word >> 16 : word);
}

// The lane's four elements of a product whose row i, column j is `of(i, j)`.
template <class Of>
void accumulate(float (&d)[4], Of of) {
  const int row = lane() / 4, column = lane() % 4 * 2;
  for (int at = 0; at < 4; ++at) d[at] += of(row + 8 * (at / 2), column + at % 2);
  if (!lane()) report->flops += 2 * 16 * 8 * 16;
}

template <int Count>
void transposed(unsigned (&made)[Count], const void* row, const char* what) {
  Slot mine;
  mine.row = row;
  const Slot* rows = exchange(mine, what);
  for (int at = 0; at < Count; ++at)
    for (int half = 0; half < 2; ++half) {
      const int down = lane() % 4 * 2 + half, right = lane() / 4;
      unsigned short bits;
      memcpy(&bits, in_shared(rows[8 * at + down].row, 16, what) + 2 * right, 2);
      made[at] = half ? made[at] | unsigned(bits) << 16 : bits;
    }
}

// Tensor cores no longer see these sixteen bytes.
void unseen(const void* at) { memset(seen + (static_cast<const unsigned char*>(at) - shared), POISON, 16); }

// Where in shared memory a descriptor has element (at, k) of a matrix, `at` being a row of `a` or a column of `b`. From
// the PTX ISA, "Matrix descriptor" and the canonical layouts: chunks of 16 bytes, in lines of `wide` of them.
size_t place(unsigned long long descriptor, bool along_k, int at, int k) {
  if (descriptor & (3ull << 14 | 3ull << 30 | 7ull << 46 | 0x3ffull << 52)) fail("no descriptor has such bits");
  const size_t start = (descriptor & 0x3fff) << 4, leading = (descriptor >> 16 & 0x3fff) << 4,
               stride = (descriptor >> 32 & 0x3fff) << 4, mode = descriptor >> 62, wide = mode ? 16 >> mode : 1;
  if ((descriptor >> 49 & 7) || (start >> 7 & (wide - 1))) fail("wgmma begins within the pattern of a swizzle");
  size_t offset;
  if (along_k)
    offset = at % 8 * wide * 16 + at / 8 * stride + k / 8 * (mode ? 16 : leading) + k % 8 * 2;
  else if (mode)
    offset = at / 8 % wide * 16 + at / 8 / wide * leading + k % 8 * wide * 16 + k / 8 * stride + at % 8 * 2;
  else
    offset = at / 8 * stride + k % 8 * 16 + k / 8 * leading + at % 8 * 2;
  const size_t straight = start + offset, address = straight ^ (straight >> 7 & (wide - 1)) << 4;
  if (address < WINDOW || address - WINDOW + 2 > shared_bytes) fail("wgmma beyond its %zu shared bytes", shared_bytes);
  return address - WINDOW;
}

// A number of a product's operands as it is now: of row `at` of `a`, or of a column of `b`.
unsigned short operand(const Product& one, int at, int k) {
  unsigned short bits;
  memcpy(&bits, seen + (at < 64 ? place(one.a, true, at, k) : place(one.b, false, at - 64, k)), 2);
  return bits;
}

// One more product for this lane: the first of its warpgroup to come reads the operands, the others must mean the same.
void issue(unsigned long long a, unsigned long long b, float* sums, int columns, bool brain) {
  Fiber& own = fibers[current];
  auto& all = products[current / GROUP];
  if (own.issued == all.size()) {
    Product& made = all.emplace_back(Product{a, b, columns, brain});
    for (int at = 0; at < 64 + columns; ++at)
      for (int k = 0; k < 16; ++k) made.wide[at][k] = number(made.read[at][k] = operand(made, at, k), brain);
    report->flops += 2 * 64 * 16 * columns;
  }
  const Product& one = all[own.issued++];
  if (one.a != a || one.b != b || one.columns != columns || one.brain != brain) fail("wgmma differs in its warpgroup");
  if (!own.sums) {
    if (!own.fenced) fail("wgmma into sums that nothing has fenced");
    own.sums = sums;
    memcpy(own.held, sums, columns / 2 * sizeof *sums);
  }
  if (own.sums != sums) fail("wgmma into other sums than those under way");
  memset(sums, POISON, columns / 2 * sizeof *sums);
  exchange({}, "wgmma");
}

// Of this lane's groups all but the latest `pending` are done, now at the latest.
void finish(size_t pending) {
  Fiber& own = fibers[current];
  const auto& all = products[current / GROUP];
  const size_t last = own.ends.size() > pending ? own.ends.end()[-1 - long(pending)] : 0;
  if (warps[current / WARP].meeting.arrived == WARP - 1)  // the last of its warp
    for (size_t each = own.finished; each < last; ++each)
      for (int at = 0; at < 64 + all[each].columns; ++at)
        for (int k = 0; k < 16; ++k)
          if (operand(all[each], at, k) != all[each].read[at][k]) fail("wgmma's operands change while it is under way");
  exchange({}, "wgmma.wait_group");
  const int row = current % GROUP / WARP * 16 + lane() / 4, column = lane() % 4 * 2;
  for (; own.finished < last; ++own.finished) {
    const Product& one = all[own.finished];
    for (int each = 0; each < one.columns / 2; ++each) {
      const float *a = one.wide[row + each / 2 % 2 * 8], *b = one.wide[64 + each / 4 * 8 + column + each % 2];
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[k] * b[k];
      own.held[each] += sum;
    }
  }
  if (!own.sums || own.finished < own.issued) return;
  const size_t bytes = all.back().columns / 2 * sizeof *own.sums;
  for (size_t at = 0; at < bytes; ++at)
    if (reinterpret_cast<unsigned char*>(own.sums)[at] != POISON) fail("touches sums while wgmma is under way");
  memcpy(own.sums, own.held, bytes);
  own.sums = nullptr, own.fenced = false;
}

}  // namespace host

inline void __syncthreads() { host::meet(host::block, host::threads, "__syncthreads"); }
inline void __syncwarp(unsigned = ~0u) { host::exchange({}, "__syncwarp"); }

template <class T>
T __shfl_sync(unsigned, T value, int from, int width = host::WARP) {
  static_assert(sizeof(T) <= 8, "");
  host::Slot mine;
  memcpy(mine.words, &value, sizeof value);
  const unsigned lane = host::lane() / width * width + from % width;
  memcpy(&value, host::exchange(mine, "__shfl_sync")[lane].words, sizeof value);
  return value;
}

template <class T>
T __shfl_xor_sync(unsigned all, T value, int bits) {
  return __shfl_sync(all, value, static_cast<int>(host::lane()) ^ bits);
}

struct Bfloat16 {
  static constexpr bool brain = true;
};
struct Float16 {
  static constexpr bool brain = false;
};

template <class Number>
unsigned short rounded(float value) {
  unsigned bits;
  memcpy(&bits, &value, 4);
  if (Number::brain) {
    if (value != value) return 0x7fff;
    return static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
  const unsigned short sign = static_cast<unsigned short>(bits >> 16 & 0x8000);
  const float size = __builtin_fabsf(value);
  if (value != value) return 0x7fff;
  if (size >= 65520.f) return sign | 0x7c00;
  const int exponent = size < 0x1p-14f ? -14 : __builtin_ilogbf(size);  // subnormal below
  const int fraction = static_cast<int>(__builtin_rintf(__builtin_ldexpf(size, 10 - exponent)));
  return static_cast<unsigned short>(sign | (((exponent + 14) << 10) + fraction));
}

template <class Number>
float widened(unsigned short bits) {
  return host::number(bits, Number::brain);
}

inline void cp_async_16(void* to, const void* from, bool there = true) {
  host::in_shared(to, 16, "cp.async into an address");
  if (there && reinterpret_cast<uintptr_t>(from) % 16) host::fail("cp.async from an address off its alignment");
  host::unseen(to);
  memset(to, host::POISON, 16);
  host::fibers[host::current].open.push_back({to, from, there});
}

inline void st_shared_16(void* to, uint4 four) {
  host::unseen(host::in_shared(to, 16, "store into an address"));
  memcpy(to, &four, 16);
  host::fibers[host::current].written.push_back(to);
}

inline void cp_async_commit() {
  host::Fiber& own = host::fibers[host::current];
  own.groups.push_back(std::move(own.open));
  own.open.clear();
}

template <int Pending>
void cp_async_wait() {
  host::Fiber& own = host::fibers[host::current];
  auto& groups = own.groups;
  for (; groups.size() > Pending; groups.pop_front())
    for (const host::Copy& one : groups.front()) {
      if (one.there)
        memcpy(one.to, one.from, 16);
      else
        memset(one.to, 0, 16);
      own.written.push_back(one.to);
    }
}

inline void ldmatrix_x2_trans(unsigned (&made)[2], const void* row) { host::transposed(made, row, "ldmatrix.x2"); }
inline void ldmatrix_x4_trans(unsigned (&made)[4], const void* row) { host::transposed(made, row, "ldmatrix.x4"); }

template <class Number>
void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  const host::Slot mine{.words = {a[0], a[1], a[2], a[3], b0, b1}};
  const host::Slot* slots = host::exchange(mine, "mma.m16n8k16");
  host::accumulate(d, [&](int row, int column) {
    float sum = 0;
    for (int k = 0; k < 16; ++k)
      sum += host::number(host::a_of(slots, row, k), Number::brain) *
             host::number(host::b_of(slots, k, column), Number::brain);
    return sum;
  });
}

template <class Number, int Pair>
void mma_sp_m16n8k32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned kept) {
  const host::Slot mine{.words = {a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], kept}};
  const host::Slot* slots = host::exchange(mine, "mma.sp.m16n8k32");
  host::accumulate(d, [&](int row, int column) {
    float sum = 0;
    for (int four = 0; four < 8; ++four) {
      const unsigned word = slots[row % 8 * 4 + 2 * Pair + four / 4].words[8] >> (16 * (row / 8) + 4 * (four % 4));
      const int first = word & 3, second = word >> 2 & 3;
      if (first >= second) host::fail("mma.sp keeps %d and %d of four, which must ascend", first, second);
      for (int at = 0; at < 2; ++at)
        sum += host::number(host::a_of(slots, row, 2 * four + at), Number::brain) *
               host::number(host::b_of(slots, 4 * four + (at ? second : first), column), Number::brain);
    }
    return sum;
  });
}

inline unsigned shared_address(const void* at) {
  return host::WINDOW + static_cast<unsigned>(static_cast<const unsigned char*>(at) - shared);
}

inline void fence_proxy_async() {
  host::Fiber& own = host::fibers[host::current];
  for (const void* at : own.written) memcpy(host::seen + (static_cast<const unsigned char*>(at) - shared), at, 16);
  own.written.clear();
}

inline void wgmma_fence() {
  host::fibers[host::current].fenced = true;
  host::exchange({}, "wgmma.fence");
}

inline void wgmma_commit() {
  host::Fiber& own = host::fibers[host::current];
  own.ends.push_back(own.issued);
  host::exchange({}, "wgmma.commit_group");
}

template <int Pending>
void wgmma_wait() {
  host::finish(Pending);
}

template <int Wide>
void wgmma_wait_all(float (&)[Wide][4]) {
  host::finish(0);
}

template <class Number, int Wide>
void wgmma_k16(float (&sums)[Wide][4], unsigned long long a, unsigned long long b) {
  host::issue(a, b, sums[0], 8 * Wide, Number::brain);
}

// What the loader calls.

extern "C" {

// Shared memory of this many bytes that ends, but for its alignment, where no page is; the rest is poison.
void* guarded(size_t bytes) {
  const size_t page = sysconf(_SC_PAGESIZE), held = (bytes + page - 1) / page * page;
  unsigned char* base = static_cast<unsigned char*>(
      mmap(nullptr, held + 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (base == MAP_FAILED) return nullptr;
  mprotect(base, page, PROT_NONE), mprotect(base + page + held, page, PROT_NONE);
  memset(base + page, host::POISON, held);
  return base + page + held - (bytes + 15) / 16 * 16;
}

// How many bytes up to the first of them are not what they were: somebody wrote before its beginning.
size_t trespassed(void* at) {
  const size_t page = sysconf(_SC_PAGESIZE);
  const unsigned char* first = static_cast<unsigned char*>(at);
  const unsigned char* base = first - reinterpret_cast<uintptr_t>(at) % page;
  while (base < first && *base == host::POISON) ++base;
  return first - base;
}

void unguard(void* at, size_t bytes) {
  const size_t page = sysconf(_SC_PAGESIZE), held = (bytes + page - 1) / page * page;
  unsigned char* end = static_cast<unsigned char*>(at) + (bytes + 15) / 16 * 16;
  munmap(end - held - page, held + 2 * page);
}

// Runs a kernel whose arguments are all whole numbers or addresses, in a child: it may do anything at all.
// 0 if it went well; `to` then has what was counted, and else what went wrong.
int emulate(void (*kernel)(...), const long long* arguments, const unsigned* grid, unsigned count, size_t bytes,
            unsigned seed, host::Report* to) {
  static const long long* given;
  static void (*called)(...);
  *to = {}, host::report = to, given = arguments, called = kernel;
  if (count > host::MOST || count % host::WARP || bytes > host::SHARED) {
    snprintf(to->said, sizeof to->said, "%u threads, %zu bytes of shared memory", count, bytes);
    return 1;
  }
  const pid_t child = fork();
  if (child) {
    int status = 1;
    waitpid(child, &status, 0);
    return status;
  }
  static unsigned char aside[1 << 16];
  const stack_t stack = {.ss_sp = aside, .ss_flags = 0, .ss_size = sizeof aside};
  sigaltstack(&stack, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = host::struck, action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE}) sigaction(signal, &action, nullptr);
  host::threads = count, host::shared_bytes = bytes;
  blockDim = {count, 1, 1}, gridDim = {grid[0], grid[1], grid[2]};
  host::body = [] {
    using Sixteen = void (*)(long long, long long, long long, long long, long long, long long, long long, long long,
                             long long, long long, long long, long long, long long, long long, long long, long long);
    const long long* p = given;  // a callee takes what it knows of, each in a register or slot of 64 bits
    reinterpret_cast<Sixteen>(called)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12],
                                      p[13], p[14], p[15]);
  };
  std::vector<unsigned> order(count);
  for (unsigned at = 0; at < count; ++at) order[at] = seed == 1 ? count - 1 - at : at;  // 0: first threads first
  std::mt19937 random(seed);
  unsigned char* stacks = static_cast<unsigned char*>(mmap(nullptr, size_t(count) * host::STACK, PROT_READ | PROT_WRITE,
                                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) {
        if (seed > 1)
          for (unsigned at = count; at > 1; --at) std::swap(order[at - 1], order[random() % at]);
        host::run_block(order, stacks);
      }
  _exit(0);
}
}
