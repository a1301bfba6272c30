// Codewords of a nested code (spec section 6), in doubled coordinates of 16 bits: none is beyond 2 q, and no step on the
// way beyond 8 q + 4.
#pragma once

#include <algorithm>

#include "halves.hpp"
#include "kernels.hpp"

namespace latq::LATQ_TARGET {

// reference.representative of points (a vector of each coordinate) to which 3 q was added, so that none is negative.
LATQ_INLINE void reduce(const H points[8], uint16_t q, J word[8]) {
    const uint16_t twice = 2 * q;
    H sum{}, odd{};
    J high{}, low = all<J>((int16_t)q), signs{};
    LATQ_UNROLL
    for (int i = 0; i < 8; ++i) {
        // What would be negative is large.
        const H p = smaller_of(points[i], points[i] - (uint16_t)(2 * twice)), e = smaller_of(p, p - twice);
        odd ^= p - e;  // 0 or 2 q
        word[i] = (J)(e - q);
        const J a = magnitude(word[i]);
        sum += (H)a, high = larger_of(high, a), low = smaller_of(low, a), signs ^= word[i];
    }
    const MH whole_odd = are_not_zero(odd), half_odd = one_of(whole_odd, are_negative(signs));
    const J none = all<J>((int16_t)-1), zero{};
    // Larger sums than 2^15 wrap, but not what becomes of them.
    const H closer = (H)select(whole_odd, all<J>((int16_t)q) - high, zero) - (H)select(half_odd, low, zero);
    const MH half = less(zero, (J)(sum - (uint16_t)(2 * twice) + closer + closer));
    const J extreme = select(half, select(half_odd, low, none), select(whole_odd, high, none));
    const J usual = select(half, all<J>((int16_t)q), zero);
    const J other = select(half, all<J>((int16_t)-q), all<J>((int16_t)twice));
    MH open = all_halves();
    LATQ_UNROLL
    for (int i = 0; i < 8; ++i) {
        const MH found = equal(magnitude(word[i]), extreme);
        const J way = select(both(open, found), other, usual), below = word[i] >> 15;
        open = without(open, found);
        word[i] -= (way ^ below) - below;
    }
}

// The scales of HALVES blocks.
LATQ_INLINE J turned_scales(const int16_t table[MAX_SCALES], const uint8_t* index) {
    J scales;
#if defined(__AVX512F__)
    J order;
    for (size_t i = 0; i < HALVES; ++i) order[i] = (int16_t)turned_place(i);
    const __m512i known = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i*)table));
    const __m512i wide = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)index));
    scales = (J)_mm512_permutexvar_epi16((__m512i)order, _mm512_permutexvar_epi16(wide, known));
#else
    for (size_t i = 0; i < HALVES; ++i) scales[i] = table[index[turned_place(i)]];
#endif
    return scales;
}

// Vector k of HALVES blocks times their scales.
LATQ_INLINE void store_scaled(J word, const float table[MAX_SCALES], const uint8_t* index, float* out) {
    typedef int16_t Half __attribute__((vector_size(2 * W)));
    Half halves[2];
    std::memcpy(halves, &word, sizeof word);
    LATQ_UNROLL
    for (size_t i = 0; i < 2; ++i) {
        const F x = __builtin_convertvector(halves[i], F);
        F scale = all<F>(table[index[i * W / 8]]);
#if defined(__AVX512F__)
        scale = select((M)0xFF00, all<F>(table[index[i * W / 8 + 1]]), scale);
#endif
        store(out + i * W, x * scale);
    }
}

// reference.scaled_codewords of full vectors of blocks.
template <class T, class Out>
LATQ_INLINE void codewords_of(const T* digits, const uint8_t* index, const Out* table, uint16_t q, const H start[8],
                              Out* out) {
    typedef T Digits __attribute__((vector_size(HALVES * sizeof(T))));
    H c[8], p[8];
    LATQ_UNROLL
    for (size_t k = 0; k < 8; ++k) c[k] = __builtin_convertvector(load<Digits>(digits + k * HALVES), H);
    turn_lanes(c);
    const H last = c[7];
    for (int i = 0; i < 7; ++i) c[i] += c[i];
    p[0] = c[0] + c[0] - c[1] + (last + start[0]);
    LATQ_UNROLL
    for (int i = 1; i < 6; ++i) p[i] = c[i] - c[i + 1] + (last + start[i]);
    p[6] = c[6] + (last + start[6]), p[7] = last + start[7];
    J word[8];
    reduce(p, q, word);
    if constexpr (sizeof(Out) == 2) {
        const J scales = turned_scales(table, index);
        for (J& w : word) w *= scales;
    }
    turn_lanes((H*)word);
    LATQ_UNROLL
    for (size_t k = 0; k < 8; ++k) {
        if constexpr (sizeof(Out) == 2) store(out + k * HALVES, word[k]);
        else store_scaled(word[k], table, index + k * (HALVES / 8), out + k * HALVES);
    }
}

template <class T, class Out>
inline void codewords(const T* digits, const uint8_t* index, const Out scales[MAX_SCALES], size_t blocks, int32_t q,
                      const int32_t* offset, Out* out) {
    H start[8];
    for (int i = 0; i < 8; ++i) start[i] = all<H>((uint16_t)(3 * q + offset[i]));
    size_t b = 0;
    for (; b + HALVES <= blocks; b += HALVES)
        codewords_of(digits + 8 * b, index + b, scales, (uint16_t)q, start, out + 8 * b);
    if (b == blocks) return;
    T some_digits[8 * HALVES]{};
    uint8_t some_index[HALVES]{};
    Out some[8 * HALVES];
    std::copy_n(digits + 8 * b, 8 * (blocks - b), some_digits);
    std::copy_n(index + b, blocks - b, some_index);
    codewords_of(some_digits, some_index, scales, (uint16_t)q, start, some);
    std::copy_n(some, 8 * (blocks - b), out + 8 * b);
}

}  // namespace latq::LATQ_TARGET
