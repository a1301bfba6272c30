// Products of rows of integers (latq/kernels/products.py). Panels of rows are laid out pair by pair of their entries, so
// that one instruction multiplies and adds the pairs of as many rows as a vector has lanes.
#pragma once

#include <algorithm>

#include "kernels.hpp"
#include "layout.hpp"

namespace latq::LATQ_TARGET {

typedef int16_t Halves __attribute__((vector_size(4 * W)));

// Rows of a panel, and those of another one that it meets at a time: registers hold their sums.
constexpr size_t PANEL = 2 * W, STRIP = W == 16 ? 8 : 4;
static_assert(PANEL <= MOST_OF_PANEL && PRODUCTS_BLOCK % PANEL == 0 && PANEL % STRIP == 0);

// Of each lane: the sum, the product of the low halves and that of the high ones.
LATQ_INLINE I add_pairs(I sum, I a, I b) {
#if defined(__AVX512VNNI__)
    return (I)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVX512F__)
    return sum + (I)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return sum + (I)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return sum + (I)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    return (I)((U)sum + (U)((a << 16 >> 16) * (b << 16 >> 16)) + (U)((a >> 16) * (b >> 16)));
#endif
}

// Up to PANEL rows of n entries as (pairs, PANEL), zeros for what is not there. Returns their largest magnitude.
inline int32_t pack_panel(const Factor& rows, size_t n, int32_t* to) {
    using V = Line<int32_t>::V;
    constexpr size_t STEP = 2 * W;
    Halves high{}, low{};
    for (size_t at = 0; at < n; at += STEP, to += W * PANEL) {
        const size_t some = std::min(n - at, STEP);
        int16_t there[STEP]{};
        std::fill_n(there, some, -1);
        const V mask = load<V>(there);
        LATQ_UNROLL
        for (size_t half = 0; half < PANEL; half += W) {
            V tile[W];
            LATQ_UNROLL
            for (size_t i = 0; i < W; ++i) {
                const size_t row = half + i;
                const int16_t* const from = rows.x + row * rows.stride + at;
                tile[i] = V{};
                // A whole vector also where that ends in a row below.
                if (row < rows.count && at + STEP <= (rows.count - 1 - row) * rows.stride + n)
                    tile[i] = load<V>(from) & mask;
                else if (row < rows.count) std::memcpy(&tile[i], from, some * sizeof *from);
                const Halves x = (Halves)tile[i];
                high = x > high ? x : high, low = x < low ? x : low;
            }
            transpose_tile<int32_t>(tile);
            LATQ_UNROLL
            for (size_t i = 0; i < W; ++i)
                if (2 * i < some) store(to + i * PANEL + half, tile[i]);
        }
    }
    int32_t peak = 0;
    for (size_t i = 0; i < STEP; ++i) peak = std::max({peak, (int32_t)high[i], -(int32_t)low[i]});
    return peak;
}

// Adds the products of STRIP rows of a panel and all rows of another. No sum is beyond 32 bits but that of two products
// of -32768 by itself, 2^31: one less is counted.
LATQ_INLINE void add_run(const int32_t* strip, const int32_t* panel, size_t pairs, double sums[STRIP][PANEL]) {
    I found[STRIP][2]{};
    for (size_t p = 0; p < pairs; ++p, strip += PANEL, panel += PANEL) {
        const I left = load<I>(panel), right = load<I>(panel + W);
        LATQ_UNROLL
        for (size_t i = 0; i < STRIP; ++i) {
            const I pair = all<I>(strip[i]);
            found[i][0] = add_pairs(found[i][0], pair, left);
            found[i][1] = add_pairs(found[i][1], pair, right);
        }
    }
    LATQ_UNROLL
    for (size_t i = 0; i < STRIP; ++i) {
        int32_t less[PANEL];
        store(less, (U)found[i][0] - 1u), store(less + W, (U)found[i][1] - 1u);
        for (size_t j = 0; j < PANEL; ++j) sums[i][j] += (double)less[j] + 1;
    }
}

LATQ_INLINE void put(double* to, double x) { *to += x; }
LATQ_INLINE void put(float* to, double x) { *to = (float)x; }

template <class T>
inline void products(const Factor& a, const Factor& b, size_t n, const Target<T>& out, void* scratch) {
    // A panel of few rows is mostly zeros, a block of few rows is not.
    if (b.count < PANEL && b.count < a.count)
        return products<T>(b, a, n, {out.at, out.column_stride, out.row_stride}, scratch);
    const size_t pairs = (n + 1) / 2;
    int32_t *const block = (int32_t*)scratch, *const panel = block + PRODUCTS_BLOCK * pairs;
    for (size_t top = 0; top < a.count; top += PRODUCTS_BLOCK) {
        const Factor high = a.from(top, PRODUCTS_BLOCK);
        int32_t peaks[PRODUCTS_BLOCK / PANEL];
        for (size_t i = 0; i < high.count; i += PANEL)
            peaks[i / PANEL] = pack_panel(high.from(i, PANEL), n, block + i * pairs);
        for (size_t left = 0; left < b.count; left += PANEL) {
            const Factor wide = b.from(left, PANEL);
            const int32_t peak = pack_panel(wide, n, panel);
            double gains[PANEL]{};
            std::copy_n(wide.gains, wide.count, gains);
            for (size_t i = 0; i < high.count; i += STRIP) {
                const int32_t* const strip = block + i / PANEL * PANEL * pairs + i % PANEL;
                // As many pairs as cannot add up to 2^31, but one at least.
                const int32_t largest = std::max(peak * peaks[i / PANEL], 1);
                const size_t run = std::max(INT32_MAX / 2 / largest, 1);
                double sums[STRIP][PANEL]{};
                for (size_t p = 0; p < pairs; p += run)
                    add_run(strip + p * PANEL, panel + p * PANEL, std::min(run, pairs - p), sums);
                for (size_t r = 0; r < std::min(STRIP, high.count - i); ++r) {
                    const double gain = high.gains[i + r];
                    for (size_t j = 0; j < PANEL; ++j) sums[r][j] *= gain * gains[j];
                    T* const row = out.at + (top + i + r) * out.row_stride + left * out.column_stride;
                    if (wide.count == PANEL && out.column_stride == 1)
                        for (size_t j = 0; j < PANEL; ++j) put(row + j, sums[r][j]);
                    else
                        for (size_t j = 0; j < wide.count; ++j) put(row + j * out.column_stride, sums[r][j]);
                }
            }
        }
    }
}

}  // namespace latq::LATQ_TARGET
