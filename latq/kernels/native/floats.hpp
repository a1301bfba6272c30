// float16 and bfloat16: their values, and the nearest of them to floats.
#pragma once

#include <bit>
#include <utility>

#include "kernels.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

LATQ_INLINE float value_of(BFloat16 x) { return std::bit_cast<float>((uint32_t)x.bits << 16); }

// A product, which is exact, brings the exponent into its place, that of numbers below 2^-14 too.
LATQ_INLINE float value_of(Float16 x) {
    const uint32_t magnitude = (uint32_t)(x.bits & 0x7FFF) << 13, sign = (uint32_t)(x.bits & 0x8000) << 16;
    const uint32_t finite = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
    const uint32_t bits = magnitude < 0x0F800000 ? finite : magnitude | 0x7F800000;
    return std::bit_cast<float>(bits | sign);
}

template <class T>
inline void widen(const T* x, size_t count, float* out) {
    for (size_t i = 0; i < count; ++i) out[i] = value_of(x[i]);
}

// Half of what F and I hold, and as many doubles.
typedef float FH __attribute__((vector_size(2 * W)));
typedef int32_t IH __attribute__((vector_size(2 * W)));
typedef double D __attribute__((vector_size(4 * W)));

LATQ_INLINE D doubles(FH x) {
#if defined(__AVX512F__)
    return (D)_mm512_cvtps_pd((__m256)x);
#elif defined(__AVX2__)
    return (D)_mm256_cvtps_pd((__m128)x);
#else
    return __builtin_convertvector(x, D);
#endif
}

LATQ_INLINE D doubles(IH x) {
#if defined(__AVX512F__)
    return (D)_mm512_cvtepi32_pd((__m256i)x);
#elif defined(__AVX2__)
    return (D)_mm256_cvtepi32_pd((__m128i)x);
#else
    return __builtin_convertvector(x, D);
#endif
}

template <size_t... I>
LATQ_INLINE F joined(FH low, FH high, std::index_sequence<I...>) {
    return __builtin_shufflevector(low, high, I...);
}

LATQ_INLINE F floats(D low, D high) {
    constexpr std::make_index_sequence<W> lanes;
    return joined(__builtin_convertvector(low, FH), __builtin_convertvector(high, FH), lanes);
}

// The low halves of the lanes.
LATQ_INLINE void store_words(void* to, U x) {
#if defined(__AVX512F__)
    _mm256_storeu_si256((__m256i*)to, _mm512_cvtepi32_epi16((__m512i)x));
#elif defined(__AVX2__)
    const __m128i low = _mm256_castsi256_si128((__m256i)x), high = _mm256_extracti128_si256((__m256i)x, 1);
    _mm_storeu_si128((__m128i*)to, _mm_packus_epi32(low, high));
#else
    uint16_t words[W];
    for (size_t i = 0; i < W; ++i) words[i] = (uint16_t)x[i];
    std::memcpy(to, words, sizeof words);
#endif
}

// Numbers brought into [-largest, largest]; a NaN stays.
template <class V, class T>
LATQ_INLINE V limited(V x, T largest) {
    const V top = all<V>(largest);
    x = top < x ? top : x;
    return x < -top ? -top : x;
}

// The nearest finite numbers to x, ties to even, by way of float where T is narrower; a NaN stays one.
LATQ_INLINE void store_rounded(double* to, D low, D high) {
    store(to, limited(low, 1.7976931348623157e308)), store(to + W / 2, limited(high, 1.7976931348623157e308));
}

// What is beyond the largest float rounds to it or to infinity.
LATQ_INLINE void store_rounded(float* to, D low, D high) { store(to, limited(floats(low, high), 3.4028234663852886e38f)); }

LATQ_INLINE void store_rounded(BFloat16* to, D low, D high) {
    const U bits = (U)limited(floats(low, high), 3.3895313892515355e38f);
    const U nearest = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16, nan = (bits >> 16 & 0x8000u) | 0x7FC0u;
    store_words(to, (bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : nearest);
}

LATQ_INLINE void store_rounded(Float16* to, D low, D high) {
    const U bits = (U)limited(floats(low, high), 65504.0f), magnitude = bits & 0x7FFFFFFFu;
    const U normal = (magnitude + 0xFFFu + (magnitude >> 13 & 1u) - (112u << 23)) >> 13;
    // Below 2^-14 the sum with 1/2 is rounded to a multiple of 2^-24.
    const U small = (U)((F)magnitude + 0.5f) - 0x3F000000u;
    const U finite = magnitude < 0x38800000u ? small : normal;
    const U nearest = magnitude > 0x7F800000u ? all<U>(0x7E00u) : finite;
    store_words(to, nearest | (bits >> 16 & 0x8000u));
}

}  // namespace latq::LATQ_TARGET
