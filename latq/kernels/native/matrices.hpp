// Products of matrices whose rounding does not depend on how they are cut (latq/kernels/matrices.py).
#pragma once

#include <algorithm>

#include "floats.hpp"
#include "kernels.hpp"

namespace latq::LATQ_TARGET {

template <class T>
struct Vector;
template <>
struct Vector<float> {
    using type = F;
};
template <>
struct Vector<double> {
    using type = D;
};

// Of a tile of c that stays in registers: rows, vectors in a row. Rows of b that are laid out anew at a time.
constexpr size_t TILE_ROWS = W == 16 ? 6 : 4, TILE_VECTORS = W == 16 ? 4 : 2, PRODUCT_DEPTH = 256;
template <class T>
constexpr size_t TILE_COLUMNS = TILE_VECTORS * (sizeof(F) / sizeof(T));

// c -= a b of R rows, b (depth, TILE_COLUMNS).
template <size_t R, class T>
LATQ_INLINE void subtract_tile(T* c, size_t c_stride, const T* a, size_t a_stride, const T* b, size_t depth) {
    using V = typename Vector<T>::type;
    constexpr size_t LANES = sizeof(V) / sizeof(T);
    V sums[R][TILE_VECTORS];
    LATQ_UNROLL
    for (size_t i = 0; i < R; ++i) {
        LATQ_UNROLL
        for (size_t j = 0; j < TILE_VECTORS; ++j) sums[i][j] = load<V>(c + i * c_stride + j * LANES);
    }
    for (size_t k = 0; k < depth; ++k) {
        V row[TILE_VECTORS];
        LATQ_UNROLL
        for (size_t j = 0; j < TILE_VECTORS; ++j) row[j] = load<V>(b + k * TILE_COLUMNS<T> + j * LANES);
        LATQ_UNROLL
        for (size_t i = 0; i < R; ++i) {
            const V factor = all<V>(a[i * a_stride + k]);
            LATQ_UNROLL
            for (size_t j = 0; j < TILE_VECTORS; ++j) sums[i][j] -= factor * row[j];
        }
    }
    LATQ_UNROLL
    for (size_t i = 0; i < R; ++i) {
        LATQ_UNROLL
        for (size_t j = 0; j < TILE_VECTORS; ++j) store(c + i * c_stride + j * LANES, sums[i][j]);
    }
}

template <class T>
void subtract_rows(T* c, size_t c_stride, const T* a, size_t a_stride, const T* b, size_t rows, size_t depth) {
    size_t i = 0;
    for (; i + TILE_ROWS <= rows; i += TILE_ROWS)
        subtract_tile<TILE_ROWS>(c + i * c_stride, c_stride, a + i * a_stride, a_stride, b, depth);
    for (; i < rows; ++i) subtract_tile<1>(c + i * c_stride, c_stride, a + i * a_stride, a_stride, b, depth);
}

template <class T>
void subtract_product(T* c, size_t c_stride, const T* a, size_t a_stride, const T* b, size_t b_stride, size_t rows,
                      size_t columns, size_t depth) {
    constexpr size_t COLUMNS = TILE_COLUMNS<T>;
    alignas(64) T part[PRODUCT_DEPTH * COLUMNS], edge[TILE_ROWS * COLUMNS];
    for (size_t k = 0; k < depth; k += PRODUCT_DEPTH) {
        const size_t deep = std::min(PRODUCT_DEPTH, depth - k);
        for (size_t j = 0; j < columns; j += COLUMNS) {
            const size_t wide = std::min(COLUMNS, columns - j);
            for (size_t i = 0; i < deep; ++i) {
                std::memcpy(part + i * COLUMNS, b + (k + i) * b_stride + j, wide * sizeof(T));
                std::fill(part + i * COLUMNS + wide, part + (i + 1) * COLUMNS, T{});
            }
            if (wide == COLUMNS) {
                subtract_rows(c + j, c_stride, a + k, a_stride, part, rows, deep);
                continue;
            }
            for (size_t i = 0; i < rows; i += TILE_ROWS) {
                const size_t high = std::min(TILE_ROWS, rows - i);
                for (size_t r = 0; r < high; ++r)
                    std::memcpy(edge + r * COLUMNS, c + (i + r) * c_stride + j, wide * sizeof(T));
                subtract_rows(edge, COLUMNS, a + i * a_stride + k, a_stride, part, high, deep);
                for (size_t r = 0; r < high; ++r)
                    std::memcpy(c + (i + r) * c_stride + j, edge + r * COLUMNS, wide * sizeof(T));
            }
        }
    }
}

}  // namespace latq::LATQ_TARGET
