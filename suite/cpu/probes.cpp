// Probes: what the cores reach in a short window, their clock, and dropping memory from every cache.
//
// Compiled for the machine it runs on, so the widest vectors are a matter of #if. Every function that uses all
// cores takes the number of threads; they are OpenMP's, the same ones that torch and the kernels use.

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include <omp.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define REGISTER "v"
#elif defined(__aarch64__)
#include <arm_neon.h>
#define REGISTER "w"
#else
#define REGISTER "m"
#endif
#if defined(__linux__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int WIDTH = 64;
#elif defined(__AVX__)
constexpr int WIDTH = 32;
#else
constexpr int WIDTH = 16;
#endif

typedef long long Whole __attribute__((vector_size(WIDTH)));

constexpr int LINE = 64;  // a step of one line; where lines are longer, some are named twice

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int CHAINS = 24;  // of 32 registers
#else
constexpr int CHAINS = 12;  // of 16 registers
#endif

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Seconds from when all threads run until the last is done; infinite if the team came out smaller.
//
// The work is fixed, not the time: if one thread is held up, the rate falls, whereas a sum of each thread's own
// rates would rise. OpenMP's barriers put waiting threads to sleep, and on a busy machine waking takes
// milliseconds; so they wait awake, and each reads the clock itself.
template <class Work>
double together(int threads, Work work) {
    std::atomic<int> arrived{0};
    double start = INFINITY, end = 0;
    bool whole = true;
#pragma omp parallel num_threads(threads) reduction(min : start) reduction(max : end) reduction(&& : whole)
    {
        const int team = omp_get_num_threads();
        whole = team == threads;
        arrived++;
        while (arrived < team) {
#if defined(__x86_64__)
            _mm_pause();
#endif
        }
        start = now();
        work(omp_get_thread_num());
        end = now();
    }
    return whole ? end - start : INFINITY;
}

void read(const char* from, int64_t bytes) {
    Whole sums[8] = {};
    for (int64_t at = 0; at < bytes; at += 8 * WIDTH) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) sums[i] ^= *reinterpret_cast<const Whole*>(from + at + i * WIDTH);
    }
    // The clobber makes the next pass over the same bytes a new one.
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) asm volatile("" ::REGISTER(sums[i]) : "memory");
}

// Independent chains of one instruction, long enough to hide its latency; operands stay in registers, opaque
// to the compiler so that nothing can be moved out of the loop.
template <class Sum, class Operand, class Step>
double chains(int64_t steps, int threads, Operand left, Operand right, double per_step, Step step) {
    double seconds = together(threads, [=](int) {
        Operand a = left, b = right;
        Sum sums[CHAINS] = {};
        // Equal chains would be folded into one.
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++) asm volatile("" : "+" REGISTER(sums[i]));
        for (int64_t n = 0; n < steps; n++) {
            asm volatile("" : "+" REGISTER(a), "+" REGISTER(b));
#pragma GCC unroll 24
            for (int i = 0; i < CHAINS; i++) sums[i] = step(sums[i], a, b);
        }
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++) asm volatile("" ::REGISTER(sums[i]));
    });
    return per_step * CHAINS * steps * threads / seconds;
}

#if defined(__AMX_TILE__) && defined(__linux__)
struct alignas(64) Shape {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t columns[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// The kernel saves tile registers only for a process that asked for them.
bool tiles_granted() {
    constexpr int REQUEST = 0x1023, TILE_DATA = 18;
    static const bool granted = syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
    return granted;
}

// Four sums, two left and two right tiles: as many products in flight as the unit takes.
#define TILE_STEPS(product) \
    product(0, 4, 6);       \
    product(1, 4, 7);       \
    product(2, 5, 6);       \
    product(3, 5, 7);

template <class Steps>
double tiles(int64_t steps, int threads, double per_step, Steps four) {
    double seconds = together(threads, [=](int) {
        static const Shape shape;
        alignas(64) static const char ones[1024] = {1, 1, 1, 1};
        _tile_loadconfig(&shape);
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        _tile_loadd(4, ones, 64);
        _tile_loadd(5, ones, 64);
        _tile_loadd(6, ones, 64);
        _tile_loadd(7, ones, 64);
        for (int64_t n = 0; n < steps; n++) four();
        _tile_release();
    });
    return 4 * per_step * steps * threads / seconds;
}
#endif

}  // namespace

extern "C" {

char* reserve(int64_t bytes) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 2 << 20, bytes)) return nullptr;
#if defined(MADV_HUGEPAGE)
    madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return static_cast<char*>(memory);
}

void release(char* memory) { free(memory); }

// Each thread writes the part it will read, so that it lies on its own NUMA node.
void fill(char* memory, int64_t each, int threads) {
    together(threads, [=](int mine) {
        for (int64_t at = 0; at < each; at += 8)
            *reinterpret_cast<int64_t*>(memory + mine * each + at) = 0x5bd1e995 * (at + 1);
    });
}

// Seconds in which every thread reads its own `each` bytes `times` over; `each` is a multiple of 512.
double read_window(const char* memory, int64_t each, int64_t times, int threads) {
    return together(threads, [=](int mine) {
        for (int64_t n = 0; n < times; n++) read(memory + mine * each, each);
    });
}

// Operations per second of fused multiply-adds; 0 where this machine has none of that type.
double float32_window([[maybe_unused]] int64_t steps, [[maybe_unused]] int threads) {
#if defined(__AVX512F__)
    auto step = [](__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); };
    return chains<__m512>(steps, threads, _mm512_set1_ps(.5f), _mm512_set1_ps(.25f), 32, step);
#elif defined(__FMA__)
    auto step = [](__m256 sum, __m256 a, __m256 b) { return _mm256_fmadd_ps(a, b, sum); };
    return chains<__m256>(steps, threads, _mm256_set1_ps(.5f), _mm256_set1_ps(.25f), 16, step);
#elif defined(__aarch64__)
    auto step = [](float32x4_t sum, float32x4_t a, float32x4_t b) { return vfmaq_f32(sum, a, b); };
    return chains<float32x4_t>(steps, threads, vdupq_n_f32(.5f), vdupq_n_f32(.25f), 8, step);
#else
    return 0;
#endif
}

double float16_window([[maybe_unused]] int64_t steps, [[maybe_unused]] int threads) {
#if defined(__AVX512FP16__)
    auto step = [](__m512h sum, __m512h a, __m512h b) { return _mm512_fmadd_ph(a, b, sum); };
    return chains<__m512h>(steps, threads, _mm512_set1_ph(.5f), _mm512_set1_ph(.25f), 64, step);
#elif defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
    auto step = [](float16x8_t sum, float16x8_t a, float16x8_t b) { return vfmaq_f16(sum, a, b); };
    return chains<float16x8_t>(steps, threads, vdupq_n_f16(.5f), vdupq_n_f16(.25f), 16, step);
#else
    return 0;
#endif
}

double bfloat16_window([[maybe_unused]] int64_t steps, [[maybe_unused]] int threads) {
#if defined(__AVX512BF16__)
    auto step = [](__m512 sum, __m512bh a, __m512bh b) { return _mm512_dpbf16_ps(sum, a, b); };
    __m512bh half = _mm512_cvtne2ps_pbh(_mm512_set1_ps(.5f), _mm512_set1_ps(.5f));
    return chains<__m512>(steps, threads, half, half, 64, step);
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
    auto step = [](float32x4_t sum, bfloat16x8_t a, bfloat16x8_t b) { return vbfmmlaq_f32(sum, a, b); };
    bfloat16x8_t half = vdupq_n_bf16(vcvth_bf16_f32(.5f));
    return chains<float32x4_t>(steps, threads, half, half, 32, step);
#else
    return 0;
#endif
}

double int8_window([[maybe_unused]] int64_t steps, [[maybe_unused]] int threads) {
#if defined(__AVX512VNNI__)
    auto step = [](__m512i sum, __m512i a, __m512i b) { return _mm512_dpbusd_epi32(sum, a, b); };
    return chains<__m512i>(steps, threads, _mm512_set1_epi8(1), _mm512_set1_epi8(1), 128, step);
#elif defined(__AVXVNNI__)
    auto step = [](__m256i sum, __m256i a, __m256i b) { return _mm256_dpbusd_avx_epi32(sum, a, b); };
    return chains<__m256i>(steps, threads, _mm256_set1_epi8(1), _mm256_set1_epi8(1), 64, step);
#elif defined(__ARM_FEATURE_MATMUL_INT8)
    auto step = [](int32x4_t sum, int8x16_t a, int8x16_t b) { return vmmlaq_s32(sum, a, b); };
    return chains<int32x4_t>(steps, threads, vdupq_n_s8(1), vdupq_n_s8(1), 64, step);
#elif defined(__ARM_FEATURE_DOTPROD)
    auto step = [](int32x4_t sum, int8x16_t a, int8x16_t b) { return vdotq_s32(sum, a, b); };
    return chains<int32x4_t>(steps, threads, vdupq_n_s8(1), vdupq_n_s8(1), 32, step);
#else
    return 0;
#endif
}

double bfloat16_tiles([[maybe_unused]] int64_t steps, [[maybe_unused]] int threads) {
#if defined(__AMX_BF16__) && defined(__linux__)
    if (!tiles_granted()) return 0;
    return tiles(steps, threads, 2. * 16 * 16 * 32, [] { TILE_STEPS(_tile_dpbf16ps) });
#else
    return 0;
#endif
}

double int8_tiles([[maybe_unused]] int64_t steps, [[maybe_unused]] int threads) {
#if defined(__AMX_INT8__) && defined(__linux__)
    if (!tiles_granted()) return 0;
    return tiles(steps, threads, 2. * 16 * 16 * 64, [] { TILE_STEPS(_tile_dpbssd) });
#else
    return 0;
#endif
}

// Seconds of a chain of `steps` multiplications, each waiting for the one before.
double multiply_chain([[maybe_unused]] int64_t steps) {
#if defined(__x86_64__)
    uint64_t value = 3;
    double start = now();
    for (int64_t n = 0; n < steps; n += 8)
        asm volatile(
            "imul %0, %0\n\timul %0, %0\n\timul %0, %0\n\timul %0, %0\n\t"
            "imul %0, %0\n\timul %0, %0\n\timul %0, %0\n\timul %0, %0"
            : "+r"(value));
    return now() - start;
#else
    return 0;
#endif
}

// Drop every line of the ranges from all caches, written back where changed; returns how many lines.
// how: 2 clflushopt, 1 clflush, 0 what this architecture has. -1: it has nothing.
int64_t flush(const char* const* starts, const int64_t* sizes, int64_t ranges, [[maybe_unused]] int how, int threads) {
#if defined(__x86_64__) || defined(__aarch64__)
    int64_t lines = 0;
#pragma omp parallel num_threads(threads) reduction(+ : lines)
    {
#if defined(__x86_64__)
        _mm_mfence();  // clflushopt is not ordered behind earlier writes to other lines
#endif
        for (int64_t range = 0; range < ranges; range++) {
            const uintptr_t start = reinterpret_cast<uintptr_t>(starts[range]);
            const uintptr_t first = start / LINE, last = (start + sizes[range] + LINE - 1) / LINE;
#pragma omp for nowait schedule(static)
            for (uintptr_t line = first; line < last; line++) {
                volatile char* at = reinterpret_cast<volatile char*>(line * LINE);
#if defined(__x86_64__)
                if (how == 2)
                    asm volatile("clflushopt %0" : "+m"(*at));
                else
                    asm volatile("clflush %0" : "+m"(*at));
#else
                asm volatile("dc civac, %0" ::"r"(at) : "memory");
#endif
                lines++;
            }
        }
#if defined(__x86_64__)
        _mm_mfence();
#else
        asm volatile("dsb sy" ::: "memory");
#endif
    }
    return lines;
#else
    return -1;
#endif
}
}
