// Products of rows of integers (latq/kernels/products.py). Panels of rows are laid out lane by lane, with two or four
// entries of one row in each, so that one instruction multiplies and adds those of as many rows as there are lanes.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "halves.hpp"
#include "kernels.hpp"
#include "layout.hpp"

namespace latq::LATQ_TARGET {

// What a T is in a lane: half of it, or a quarter where an instruction multiplies those.
#if defined(__AVX512VNNI__)
template <class T>
using Part = T;
#else
template <class T>
using Part = int16_t;
#endif
template <class T>
constexpr size_t PARTS = sizeof(int32_t) / sizeof(Part<T>);

// Rows of a panel, and those of another one that it meets at a time: registers hold their sums.
constexpr size_t PANEL = 2 * W, STRIP = W == 16 ? 8 : 4;
static_assert(PANEL <= MOST_OF_PANEL && PRODUCTS_BLOCK % PANEL == 0 && PANEL % STRIP == 0);

// Adds the products of the parts of each lane. Quarters of a are without sign: 128 more than what they stand for.
template <class T>
LATQ_INLINE I add_parts(I sum, I a, I b) {
#if defined(__AVX512VNNI__)
    if constexpr (PARTS<T> == 4) return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
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

constexpr int32_t OFFSETS = (int32_t)0x80808080, ONES = 0x01010101;

// A vector of parts, and of the entries that become it.
template <class T>
struct Parts {
    static constexpr size_t COUNT = PARTS<T> * W;
    typedef Part<T> V __attribute__((vector_size(COUNT * sizeof(Part<T>))));
    typedef T Entries __attribute__((vector_size(COUNT * sizeof(T))));

    Entries first;  // all bits of the first entries
    size_t some;

    LATQ_INLINE explicit Parts(size_t some) : some(some) {
        T bits[COUNT]{};
        std::fill_n(bits, some, -1);
        first = load<Entries>(bits);
    }

    // Zeros but for the first entries from x on; beyond these no more than the readable ones are read.
    LATQ_INLINE I load_first(const T* x, size_t readable) const {
        if (readable >= COUNT) return (I)__builtin_convertvector(load<Entries>(x) & first, V);
        T part[COUNT]{};
        std::memcpy(part, x, some * sizeof *x);
        return (I)__builtin_convertvector(load<Entries>(part), V);
    }
};

// Bounds of the parts of a panel, and what sums with it begin at.
struct Known {
    int32_t peak;
    double start[PANEL];
};

// Up to PANEL rows of n entries as (lanes, PANEL), for the first or the second operand of add_parts; rows that are not
// there are zeros.
template <class T, bool FIRST>
inline Known pack_panel(const Factor<T>& rows, size_t n, int32_t* to) {
    using V = Line<int32_t>::V;
    typedef int16_t Halves __attribute__((vector_size(4 * W)));
    constexpr size_t STEP = Parts<T>::COUNT;
    constexpr bool QUARTERS = PARTS<T> == 4;
    Halves high{}, low{};
    I sums[2]{};
    for (size_t at = 0; at < n; at += STEP, to += W * PANEL) {
        const Parts<T> parts(std::min(n - at, STEP));
        LATQ_UNROLL
        for (size_t half = 0; half < 2; ++half) {
            V tile[W];
            LATQ_UNROLL
            for (size_t i = 0; i < W; ++i) {
                const size_t row = half * W + i;
                I x{};
                if (row < rows.count)
                    x = parts.load_first(rows.x + row * rows.stride + at, rows.after(row) + n - at);
                if constexpr (!QUARTERS) {
                    high = (Halves)x > high ? (Halves)x : high, low = (Halves)x < low ? (Halves)x : low;
                } else if constexpr (FIRST) x ^= OFFSETS;
                tile[i] = (V)x;
            }
            transpose_tile<int32_t>(tile);
            LATQ_UNROLL
            for (size_t i = 0; i < W; ++i) {
                if constexpr (QUARTERS && !FIRST) sums[half] = add_parts<T>(sums[half], all<I>(ONES), (I)tile[i]);
                if (i * PARTS<T> < parts.some) store(to + i * PANEL + half * W, tile[i]);
            }
        }
    }
    Known known{};
    if constexpr (QUARTERS) {
        known.peak = FIRST ? 255 : 128;
        for (size_t j = 0; j < PANEL; ++j) known.start[j] = -128.0 * sums[j / W][j % W];
    } else {
        for (size_t i = 0; i < STEP; ++i) known.peak = std::max({known.peak, (int32_t)high[i], -(int32_t)low[i]});
    }
    return known;
}

// Adds the products of STRIP rows of a panel and all rows of another. No sum is beyond 32 bits but that of two products
// of -32768 by itself, 2^31: one less is counted.
template <class T>
LATQ_INLINE void add_run(const int32_t* strip, const int32_t* panel, size_t lanes, double sums[STRIP][PANEL]) {
    I found[STRIP][2]{};
    for (size_t p = 0; p < lanes; ++p, strip += PANEL, panel += PANEL) {
        const I left = load<I>(panel), right = load<I>(panel + W);
        LATQ_UNROLL
        for (size_t i = 0; i < STRIP; ++i) {
            const I parts = all<I>(strip[i]);
            found[i][0] = add_parts<T>(found[i][0], parts, left);
            found[i][1] = add_parts<T>(found[i][1], parts, right);
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

// --- few rows on one side: along the rows, so that those of the other are read once and as they are -------------------

constexpr size_t FEW = 8, ROWS_TOGETHER = 2;

// Entries of rows [first, first + COUNT) of a factor, the last row in place of those that are not there.
template <class T, size_t COUNT>
struct SomeRows {
    static constexpr size_t STEP = Parts<T>::COUNT;
    using Entries = typename Parts<T>::Entries;
    const T* x[COUNT];
    size_t after[COUNT];

    LATQ_INLINE SomeRows(const Factor<T>& rows, size_t first) {
        for (size_t i = 0; i < COUNT; ++i) {
            const size_t row = std::min(first + i, rows.count - 1);
            x[i] = rows.x + row * rows.stride, after[i] = rows.after(row);
        }
    }

    LATQ_INLINE I at(size_t row, size_t begin) const {
        return (I)__builtin_convertvector(load<Entries>(x[row] + begin), typename Parts<T>::V);
    }

    LATQ_INLINE I at(size_t row, size_t begin, const Parts<T>& last) const {
        return last.load_first(x[row] + begin, after[row] + last.some);
    }
};

// The sum of the lanes; each is a sum less than 2^31, or that of two products of -32768 by itself.
LATQ_INLINE int64_t sum_of_lanes(I sums) {
    const U less = (U)sums - 1u;
    int64_t total = W;
    for (size_t i = 0; i < W; ++i) total += (int32_t)less[i];
    return total;
}

template <class T>
inline int32_t peak_of(const SomeRows<T, ROWS_TOGETHER>& rows, size_t n) {
    constexpr size_t STEP = Parts<T>::COUNT;
    if constexpr (PARTS<T> == 4) return 255;
    if constexpr (sizeof(T) == 1) return 128;
    J high{}, low{};
    const auto see = [&](I x) { high = larger_of(high, (J)x), low = smaller_of(low, (J)x); };
    for (size_t row = 0; row < ROWS_TOGETHER; ++row) {
        size_t begin = 0;
        for (; begin + STEP <= n; begin += STEP) see(rows.at(row, begin));
        if (begin < n) see(rows.at(row, begin, Parts<T>(n - begin)));
    }
    int32_t peak = 0;
    for (size_t i = 0; i < HALVES; ++i) peak = std::max({peak, (int32_t)high[i], -(int32_t)low[i]});
    return peak;
}

template <class T, class Out>
inline void few_products(const Factor<T>& a, const Factor<T>& b, size_t n, const Target<Out>& out) {
    constexpr size_t STEP = Parts<T>::COUNT;
    const SomeRows<T, FEW> few(b, 0);
    const Parts<T> last(n % STEP);
    int32_t peak = PARTS<T> == 4 ? 128 : 0;
    int64_t start[FEW]{};
    for (size_t j = 0; j < b.count; ++j)
        for (size_t i = 0; i < n; ++i) {
            peak = std::max(peak, std::abs((int32_t)few.x[j][i]));
            if (PARTS<T> == 4) start[j] -= 128 * few.x[j][i];
        }
    for (size_t top = 0; top < a.count; top += ROWS_TOGETHER) {
        const SomeRows<T, ROWS_TOGETHER> rows(a, top);
        // As many steps as cannot add up to 2^31, but one at least.
        const int32_t largest = std::max(peak * peak_of(rows, n), 1);
        const size_t run = STEP * std::max(INT32_MAX / (int32_t)PARTS<T> / largest, 1);
        int64_t sums[ROWS_TOGETHER][FEW];
        for (auto& row : sums) std::copy_n(start, FEW, row);
        for (size_t first = 0; first < n; first += run) {
            I found[ROWS_TOGETHER][FEW]{};
            const auto add = [&](auto... where) __attribute__((always_inline)) {
                I x[ROWS_TOGETHER];
                for (size_t i = 0; i < ROWS_TOGETHER; ++i) {
                    x[i] = rows.at(i, where...);
                    if constexpr (PARTS<T> == 4) x[i] ^= OFFSETS;
                }
                LATQ_UNROLL
                for (size_t j = 0; j < FEW; ++j) {
                    const I y = few.at(j, where...);
                    LATQ_UNROLL
                    for (size_t i = 0; i < ROWS_TOGETHER; ++i) found[i][j] = add_parts<T>(found[i][j], x[i], y);
                }
            };
            const size_t end = std::min(n, first + run);
            size_t begin = first;
            for (; begin + STEP <= end; begin += STEP) add(begin);
            if (begin < end) add(begin, last);
            for (size_t i = 0; i < ROWS_TOGETHER; ++i)
                for (size_t j = 0; j < FEW; ++j) sums[i][j] += sum_of_lanes(found[i][j]);
        }
        for (size_t i = 0; i < std::min(ROWS_TOGETHER, a.count - top); ++i)
            for (size_t j = 0; j < b.count; ++j)
                put(out.at + (top + i) * out.row_stride + j * out.column_stride,
                    (double)sums[i][j] * (a.gains[top + i] * b.gains[j]));
    }
}

template <class T, class Out>
inline void products(const Factor<T>& a, const Factor<T>& b, size_t n, const Target<Out>& out, void* scratch) {
    const Target<Out> turned{out.at, out.column_stride, out.row_stride};
    if (!a.count || !b.count) return;
    if (b.count <= FEW && b.count <= a.count) return few_products(a, b, n, out);
    if (a.count <= FEW) return few_products(b, a, n, turned);
    // A panel of few rows is mostly zeros, a block of few rows is not.
    if (b.count < PANEL && b.count < a.count)
        return products<T, Out>(b, a, n, turned, scratch);
    const size_t lanes = (n + PARTS<T> - 1) / PARTS<T>;
    int32_t *const block = (int32_t*)scratch, *const panel = block + PRODUCTS_BLOCK * lanes;
    for (size_t top = 0; top < a.count; top += PRODUCTS_BLOCK) {
        const Factor<T> high = a.from(top, PRODUCTS_BLOCK);
        int32_t peaks[PRODUCTS_BLOCK / PANEL];
        for (size_t i = 0; i < high.count; i += PANEL)
            peaks[i / PANEL] = pack_panel<T, true>(high.from(i, PANEL), n, block + i * lanes).peak;
        for (size_t left = 0; left < b.count; left += PANEL) {
            const Factor<T> wide = b.from(left, PANEL);
            const Known known = pack_panel<T, false>(wide, n, panel);
            double gains[PANEL]{};
            std::copy_n(wide.gains, wide.count, gains);
            for (size_t i = 0; i < high.count; i += STRIP) {
                const int32_t* const strip = block + i / PANEL * PANEL * lanes + i % PANEL;
                // As many lanes as cannot add up to 2^31, but one at least.
                const int32_t largest = std::max(known.peak * peaks[i / PANEL], 1);
                const size_t run = std::max(INT32_MAX / (int32_t)PARTS<T> / largest, 1);
                double sums[STRIP][PANEL];
                for (auto& row : sums) std::copy_n(known.start, PANEL, row);
                for (size_t p = 0; p < lanes; p += run)
                    add_run<T>(strip + p * PANEL, panel + p * PANEL, std::min(run, lanes - p), sums);
                for (size_t r = 0; r < std::min(STRIP, high.count - i); ++r) {
                    const double gain = high.gains[i + r];
                    for (size_t j = 0; j < PANEL; ++j) sums[r][j] *= gain * gains[j];
                    Out* const row = out.at + (top + i + r) * out.row_stride + left * out.column_stride;
                    if (wide.count == PANEL && out.column_stride == 1)
                        for (size_t j = 0; j < PANEL; ++j) put(row + j, sums[r][j]);
                    else
                        for (size_t j = 0; j < wide.count; ++j) put(row + j * out.column_stride, sums[r][j]);
                }
            }
        }
    }
}

// products.squared_norms; no entry is -32768.
template <class T>
inline void squared_norms(const T* x, size_t rows, size_t n, double* squares) {
    typedef T Entries __attribute__((vector_size(HALVES * sizeof(T))));
    for (size_t row = 0; row < rows; ++row, x += n) {
        L sums{};
        size_t i = 0;
        for (; i + HALVES <= n; i += HALVES) {
            const J wide = __builtin_convertvector(load<Entries>(x + i), J);
            const L pairs = (L)add_parts<int16_t>(I{}, (I)wide, (I)wide);
            sums += (pairs & 0xFFFFFFFFu) + (pairs >> 32);
        }
        int64_t sum = 0;
        for (; i < n; ++i) sum += (int64_t)x[i] * x[i];
        for (size_t k = 0; k < W / 2; ++k) sum += (int64_t)sums[k];
        squares[row] = (double)sum;
    }
}

// products.summed_energies.
inline void summed_energies(const uint8_t* index, size_t rows, size_t blocks, const int64_t* energies, double* sums) {
    for (size_t row = 0; row < rows; ++row, index += blocks) {
        int64_t sum = 0;
        for (size_t b = 0; b < blocks; ++b) sum += energies[index[b]];
        sums[row] = (double)sum;
    }
}

inline constexpr Products PRODUCTS = {products<int8_t, double>, products<int16_t, double>, products<int8_t, float>,
                                      products<int16_t, float>};

}  // namespace latq::LATQ_TARGET
