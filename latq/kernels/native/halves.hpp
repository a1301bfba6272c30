// Vectors of 16-bit integers, and 8 x 8 of them turned over in lanes of 16 bytes.
#pragma once

#include <utility>

#include "simd.hpp"

namespace latq::LATQ_TARGET {

constexpr size_t HALVES = 2 * W;
typedef uint16_t H __attribute__((vector_size(4 * W)));
typedef int16_t J __attribute__((vector_size(4 * W)));

#if defined(__AVX512F__)
typedef __mmask32 MH;
LATQ_INLINE H smaller_of(H a, H b) { return (H)_mm512_min_epu16((__m512i)a, (__m512i)b); }
LATQ_INLINE J smaller_of(J a, J b) { return (J)_mm512_min_epi16((__m512i)a, (__m512i)b); }
LATQ_INLINE J larger_of(J a, J b) { return (J)_mm512_max_epi16((__m512i)a, (__m512i)b); }
LATQ_INLINE J magnitude(J x) { return (J)_mm512_abs_epi16((__m512i)x); }
LATQ_INLINE MH all_halves() { return ~(MH)0; }
LATQ_INLINE MH equal(J a, J b) { return _mm512_cmpeq_epi16_mask((__m512i)a, (__m512i)b); }
LATQ_INLINE MH less(J a, J b) { return _mm512_cmplt_epi16_mask((__m512i)a, (__m512i)b); }
LATQ_INLINE MH are_negative(J x) { return _mm512_movepi16_mask((__m512i)x); }
LATQ_INLINE MH are_not_zero(H x) { return _mm512_test_epi16_mask((__m512i)x, (__m512i)x); }
LATQ_INLINE MH both(MH a, MH b) { return _kand_mask32(a, b); }
LATQ_INLINE MH one_of(MH a, MH b) { return _kxor_mask32(a, b); }
LATQ_INLINE MH without(MH a, MH b) { return _kandn_mask32(b, a); }
LATQ_INLINE J select(MH test, J yes, J no) { return (J)_mm512_mask_blend_epi16(test, (__m512i)no, (__m512i)yes); }
#else
typedef J MH;
#if defined(__AVX2__)
LATQ_INLINE H smaller_of(H a, H b) { return (H)_mm256_min_epu16((__m256i)a, (__m256i)b); }
LATQ_INLINE J smaller_of(J a, J b) { return (J)_mm256_min_epi16((__m256i)a, (__m256i)b); }
LATQ_INLINE J larger_of(J a, J b) { return (J)_mm256_max_epi16((__m256i)a, (__m256i)b); }
LATQ_INLINE J magnitude(J x) { return (J)_mm256_abs_epi16((__m256i)x); }
#else
LATQ_INLINE H smaller_of(H a, H b) { return a < b ? a : b; }
LATQ_INLINE J smaller_of(J a, J b) { return a < b ? a : b; }
LATQ_INLINE J larger_of(J a, J b) { return a > b ? a : b; }
LATQ_INLINE J magnitude(J x) { return larger_of(x, -x); }
#endif
LATQ_INLINE MH all_halves() { return ~J{}; }
LATQ_INLINE MH equal(J a, J b) { return a == b; }
LATQ_INLINE MH less(J a, J b) { return a < b; }
LATQ_INLINE MH are_negative(J x) { return x >> 15; }
LATQ_INLINE MH are_not_zero(H x) { return (MH)(x != 0); }
LATQ_INLINE MH both(MH a, MH b) { return a & b; }
LATQ_INLINE MH one_of(MH a, MH b) { return a ^ b; }
LATQ_INLINE MH without(MH a, MH b) { return a & ~b; }
LATQ_INLINE J select(MH test, J yes, J no) { return (test & yes) | (~test & no); }
#endif

// Entries of a and b by turns, from the lower or the upper half of every lane.
template <size_t UPPER, size_t... I>
LATQ_INLINE H by_turns(H a, H b, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b, (I / 8 * 8 + I % 8 / 2 + UPPER * 4 + I % 2 * HALVES)...);
}

// From 8 vectors with a block of 8 in every lane to one vector for each coordinate, and back: block k of lane l is
// entry k of that lane.
LATQ_INLINE void turn_lanes(H x[8]) {
    constexpr std::make_index_sequence<HALVES> entries;
    H y[8];
    LATQ_UNROLL
    for (int round = 0; round < 3; ++round) {
        LATQ_UNROLL
        for (int i = 0; i < 4; ++i) {
            y[2 * i] = by_turns<0>(x[i], x[i + 4], entries);
            y[2 * i + 1] = by_turns<1>(x[i], x[i + 4], entries);
        }
        LATQ_UNROLL
        for (int i = 0; i < 8; ++i) x[i] = y[i];
    }
}

// The place of every block among those of HALVES blocks that turn_lanes has turned over.
constexpr size_t turned_place(size_t i) { return i % 8 * (HALVES / 8) + i / 8; }

}  // namespace latq::LATQ_TARGET
