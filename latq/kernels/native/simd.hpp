// Vectors of the width that the instruction set likes, and the few operations that plain C++ cannot say well.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace latq::LATQ_TARGET {

#if defined(__AVX512F__)
constexpr size_t W = 16;
#elif defined(__AVX2__)
constexpr size_t W = 8;
#else
constexpr size_t W = 4;
#endif

typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef uint64_t L __attribute__((vector_size(4 * W)));

#define LATQ_INLINE [[gnu::always_inline]] inline

// Before a loop over vectors in registers, which must not be indexed at run time.
#if defined(__clang__)
#define LATQ_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LATQ_UNROLL _Pragma("GCC unroll 32")
#endif

template <class V, class T>
LATQ_INLINE V load(const T* from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class V, class T>
LATQ_INLINE void store(T* to, V v) {
    std::memcpy(to, &v, sizeof v);
}

template <class V, class T>
LATQ_INLINE V all(T value) {
    return V{} + value;
}

LATQ_INLINE I truncated(F x) { return __builtin_convertvector(x, I); }
LATQ_INLINE F floating(I x) { return __builtin_convertvector(x, F); }
LATQ_INLINE F magnitude(F x) { return (F)((U)x & 0x7FFFFFFFu); }

// a < b ? a : b and a > b ? a : b, which compilers do not see to be one instruction.
#if defined(__AVX512F__)
LATQ_INLINE F smaller_of(F a, F b) { return (F)_mm512_min_ps((__m512)a, (__m512)b); }
LATQ_INLINE F larger_of(F a, F b) { return (F)_mm512_max_ps((__m512)a, (__m512)b); }
#elif defined(__AVX2__)
LATQ_INLINE F smaller_of(F a, F b) { return (F)_mm256_min_ps((__m256)a, (__m256)b); }
LATQ_INLINE F larger_of(F a, F b) { return (F)_mm256_max_ps((__m256)a, (__m256)b); }
#else
LATQ_INLINE F smaller_of(F a, F b) { return a < b ? a : b; }
LATQ_INLINE F larger_of(F a, F b) { return a > b ? a : b; }
#endif

// Nearest integer, ties to even.
LATQ_INLINE F rounded(F x) {
#if defined(__AVX512F__)
    return (F)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
    return (F)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const F a = magnitude(x);
    const F r = (a + 8388608.0f) - 8388608.0f;
    return a < 8388608.0f ? (F)((U)r | ((U)x & 0x80000000u)) : x;
#endif
}

LATQ_INLINE F floor_of(F x) {
    const F r = rounded(x);
    return r > x ? r - 1.0f : r;
}

// table[index] of each lane.
LATQ_INLINE U gather(const uint32_t* table, U index) {
#if defined(__AVX512F__)
    return (U)_mm512_i32gather_epi32((__m512i)index, table, 4);
#elif defined(__AVX2__)
    return (U)_mm256_i32gather_epi32((const int*)table, (__m256i)index, 4);
#else
    U v;
    for (size_t i = 0; i < W; ++i) v[i] = table[index[i]];
    return v;
#endif
}

LATQ_INLINE I gather(const int32_t* table, U index) { return (I)gather((const uint32_t*)table, index); }

// Bytes; three more than the last index asks for must be readable.
LATQ_INLINE U gather_bytes(const uint8_t* table, U index) {
#if defined(__AVX512F__)
    return (U)_mm512_i32gather_epi32((__m512i)index, table, 1) & 255u;
#elif defined(__AVX2__)
    return (U)_mm256_i32gather_epi32((const int*)table, (__m256i)index, 1) & 255u;
#else
    U v;
    for (size_t i = 0; i < W; ++i) v[i] = table[index[i]];
    return v;
#endif
}

// Four bytes from each place.
LATQ_INLINE U gather_octets(const uint8_t* data, U place) {
#if defined(__AVX512F__)
    return (U)_mm512_i32gather_epi32((__m512i)place, data, 1);
#elif defined(__AVX2__)
    return (U)_mm256_i32gather_epi32((const int*)data, (__m256i)place, 1);
#else
    U v;
    for (size_t i = 0; i < W; ++i) {
        uint32_t bits;
        std::memcpy(&bits, data + place[i], 4);
        v[i] = bits;
    }
    return v;
#endif
}

// One bit per lane of a comparison's result, lane 0 lowest.
LATQ_INLINE uint32_t lanes_of(I test) {
#if defined(__AVX512F__)
    return _mm512_movepi32_mask((__m512i)test);
#elif defined(__AVX2__)
    return _mm256_movemask_ps((__m256)test);
#else
    uint32_t bits = 0;
    for (size_t i = 0; i < W; ++i) bits |= (uint32_t)(test[i] != 0) << i;
    return bits;
#endif
}

// Masks: what comparisons of a vector's lanes give, in the form that the instruction set likes.
#if defined(__AVX512F__)
typedef __mmask16 M;
LATQ_INLINE M all_lanes() { return (M)0xFFFF; }
LATQ_INLINE uint32_t lanes_of(M test) { return test; }
LATQ_INLINE M less(F a, F b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
LATQ_INLINE M less(U a, U b) { return _mm512_cmplt_epu32_mask((__m512i)a, (__m512i)b); }
LATQ_INLINE M equal(F a, F b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ); }
LATQ_INLINE M are_odd(I x) { return _mm512_test_epi32_mask((__m512i)x, _mm512_set1_epi32(1)); }
LATQ_INLINE M both(M a, M b) { return _kand_mask16(a, b); }
LATQ_INLINE M either(M a, M b) { return _kor_mask16(a, b); }
LATQ_INLINE M without(M a, M b) { return _kandn_mask16(b, a); }
LATQ_INLINE F select(M test, F yes, F no) { return (F)_mm512_mask_blend_ps(test, (__m512)no, (__m512)yes); }
LATQ_INLINE I select(M test, I yes, I no) { return (I)_mm512_mask_blend_epi32(test, (__m512i)no, (__m512i)yes); }
#else
typedef I M;
LATQ_INLINE M all_lanes() { return ~I{}; }
LATQ_INLINE M less(F a, F b) { return a < b; }
LATQ_INLINE M less(U a, U b) { return (I)(a < b); }
LATQ_INLINE M equal(F a, F b) { return a == b; }
LATQ_INLINE M are_odd(I x) { return -(x & 1); }
LATQ_INLINE M both(M a, M b) { return a & b; }
LATQ_INLINE M either(M a, M b) { return a | b; }
LATQ_INLINE M without(M a, M b) { return a & ~b; }
LATQ_INLINE I select(M test, I yes, I no) { return (test & yes) | (~test & no); }
LATQ_INLINE F select(M test, F yes, F no) { return (F)select(test, (I)yes, (I)no); }
#endif

#if defined(__AVX512F__)
#define LATQ_LOOKS_UP
// table[index] of each lane, index < N, by permutation of registers.
template <int N>
LATQ_INLINE U look_up(const uint32_t* table, U index) {
    if constexpr (N == 16) {
        return (U)_mm512_permutexvar_epi32((__m512i)index, _mm512_loadu_si512(table));
    } else if constexpr (N == 32) {
        const __m512i first = _mm512_loadu_si512(table), second = _mm512_loadu_si512(table + 16);
        return (U)_mm512_permutex2var_epi32(first, (__m512i)index, second);
    } else {
        const M second = _mm512_test_epi32_mask((__m512i)index, _mm512_set1_epi32(N / 2));
        return (U)select(second, (I)look_up<N / 2>(table + N / 2, index), (I)look_up<N / 2>(table, index));
    }
}
#endif

// 0, 1, 2, ...
LATQ_INLINE I counted() {
    I v;
    for (size_t i = 0; i < W; ++i) v[i] = (int32_t)i;
    return v;
}

LATQ_INLINE int64_t sum_of(I x) {
    int64_t total = 0;
    for (size_t i = 0; i < W; ++i) total += x[i];
    return total;
}

LATQ_INLINE int count_ones(uint32_t bits) { return __builtin_popcount(bits); }

#if defined(__AVX2__) && !defined(__AVX512F__)
// For every subset of 8 lanes: which of the first words goes to each lane, and which lanes there are, at the end.
struct Subsets {
    alignas(32) uint32_t expand[256][8];
    alignas(32) uint32_t compress[256][8];
    constexpr Subsets() : expand{}, compress{} {
        for (int mask = 0; mask < 256; ++mask) {
            uint32_t taken = 0;
            for (uint32_t lane = 0; lane < 8; ++lane) {
                expand[mask][lane] = taken & 7;
                if (mask >> lane & 1) ++taken;
            }
            for (uint32_t lane = 0, to = 8 - taken; lane < 8; ++lane)
                if (mask >> lane & 1) compress[mask][to++] = lane;
        }
    }
};
inline constexpr Subsets SUBSETS{};
#endif

// The next words, one to each lane of ``mask``; W words must be readable.
LATQ_INLINE U expand_words(const uint8_t* words, uint32_t mask) {
#if defined(__AVX512F__)
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)words));
    return (U)_mm512_maskz_expand_epi32((__mmask16)mask, wide);
#elif defined(__AVX2__)
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)words));
    return (U)_mm256_permutevar8x32_epi32(wide, _mm256_load_si256((const __m256i*)SUBSETS.expand[mask]));
#else
    U v{};
    for (size_t i = 0; i < W; ++i)
        if (mask >> i & 1) {
            uint16_t word;
            std::memcpy(&word, words, 2);
            v[i] = word, words += 2;
        }
    return v;
#endif
}

// The low halves of the lanes of ``mask`` to where ``end`` is; W words before that must be writable.
LATQ_INLINE void compress_words(uint16_t* end, U x, uint32_t mask) {
#if defined(__AVX512F__)
    const I first_lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const __m512i packed = _mm512_maskz_compress_epi32((__mmask16)mask, (__m512i)x);
    const __m512i last = _mm512_permutexvar_epi32((__m512i)(first_lanes + count_ones(mask)), packed);
    _mm256_storeu_si256((__m256i*)(end - W), _mm512_cvtepi32_epi16(last));
#elif defined(__AVX2__)
    const __m256i order = _mm256_load_si256((const __m256i*)SUBSETS.compress[mask]);
    const __m256i packed = _mm256_permutevar8x32_epi32((__m256i)(x & 0xFFFFu), order);
    const __m128i low = _mm256_castsi256_si128(packed), high = _mm256_extracti128_si256(packed, 1);
    _mm_storeu_si128((__m128i*)(end - W), _mm_packus_epi32(low, high));
#else
    for (size_t i = W; i-- > 0;)
        if (mask >> i & 1) *--end = (uint16_t)x[i];
#endif
}

// The first n of up to W numbers of any integer type, zeros after; a whole vector converts as one.
template <class T>
LATQ_INLINE U load_numbers(const T* from, size_t n) {
    typedef T V __attribute__((vector_size(W * sizeof(T))));
    if (n >= W) return __builtin_convertvector(load<V>(from), U);
    uint32_t wide[W] = {};
    for (size_t i = 0; i < n; ++i) wide[i] = (uint32_t)from[i];
    return load<U>(wide);
}

// The first n of W numbers below 256.
LATQ_INLINE void store_bytes(uint8_t* to, U x, size_t n) {
    typedef uint8_t B __attribute__((vector_size(W)));
    const B bytes = __builtin_convertvector(x, B);
    if (n >= W) store(to, bytes);
    else std::memcpy(to, &bytes, n);
}

// --- transposition of W blocks of 8 numbers ---------------------------------------------------------------------

typedef float F4 __attribute__((vector_size(16)));
typedef float F8 __attribute__((vector_size(32)));

// 4 x 4, in place.
LATQ_INLINE void transpose4(F4 r[4]) {
    const F4 a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    const F4 c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

#if defined(__AVX2__)
// 8 x 8, in place.
LATQ_INLINE void transpose8(F8 r[8]) {
    F8 t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    F8 s[8];
    for (int i = 0; i < 8; i += 4) {
        s[i] = __builtin_shufflevector(t[i], t[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        s[i + 1] = __builtin_shufflevector(t[i], t[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        s[i + 2] = __builtin_shufflevector(t[i + 1], t[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        s[i + 3] = __builtin_shufflevector(t[i + 1], t[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = __builtin_shufflevector(s[i], s[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = __builtin_shufflevector(s[i], s[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
#endif

// W blocks of 8 to 8 vectors of one coordinate each.
LATQ_INLINE void load_blocks(const float* from, F x[8]) {
#if defined(__AVX512F__)
    F8 low[8], high[8];
    for (int i = 0; i < 8; ++i) low[i] = load<F8>(from + 8 * i), high[i] = load<F8>(from + 64 + 8 * i);
    transpose8(low), transpose8(high);
    for (int i = 0; i < 8; ++i)
        x[i] = __builtin_shufflevector(low[i], high[i], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#elif defined(__AVX2__)
    for (int i = 0; i < 8; ++i) x[i] = load<F8>(from + 8 * i);
    transpose8(x);
#else
    for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < 4; ++i) x[4 * half + i] = load<F4>(from + 8 * i + 4 * half);
        transpose4(x + 4 * half);
    }
#endif
}

// Inverse of load_blocks.
LATQ_INLINE void store_blocks(float* to, const F x[8]) {
#if defined(__AVX512F__)
    F8 low[8], high[8];
    for (int i = 0; i < 8; ++i) {
        low[i] = __builtin_shufflevector(x[i], x[i], 0, 1, 2, 3, 4, 5, 6, 7);
        high[i] = __builtin_shufflevector(x[i], x[i], 8, 9, 10, 11, 12, 13, 14, 15);
    }
    transpose8(low), transpose8(high);
    for (int i = 0; i < 8; ++i) store(to + 8 * i, low[i]), store(to + 64 + 8 * i, high[i]);
#elif defined(__AVX2__)
    F8 r[8];
    for (int i = 0; i < 8; ++i) r[i] = x[i];
    transpose8(r);
    for (int i = 0; i < 8; ++i) store(to + 8 * i, r[i]);
#else
    for (int half = 0; half < 2; ++half) {
        F4 r[4] = {x[4 * half], x[4 * half + 1], x[4 * half + 2], x[4 * half + 3]};
        transpose4(r);
        for (int i = 0; i < 4; ++i) store(to + 8 * i + 4 * half, r[i]);
    }
#endif
}

LATQ_INLINE void load_blocks(const int32_t* from, I x[8]) {
    F bits[8];
    load_blocks((const float*)from, bits);
    for (int i = 0; i < 8; ++i) x[i] = (I)bits[i];
}

LATQ_INLINE void store_blocks(int32_t* to, const I x[8]) {
    F bits[8];
    for (int i = 0; i < 8; ++i) bits[i] = (F)x[i];
    store_blocks((float*)to, bits);
}

}  // namespace latq::LATQ_TARGET
