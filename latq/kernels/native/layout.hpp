// Transposition of matrices of 1, 2, 4 and 8-byte entries, in tiles that stay in the cache and in few pages.
#pragma once

#include "simd.hpp"

namespace latq::LATQ_TARGET {

constexpr size_t BAND = 128;

// to[column][row] = from[row][column]; rows of either are so many entries apart.
template <class T>
inline void transpose(const T* from, size_t from_stride, T* to, size_t to_stride, size_t rows, size_t columns) {
    constexpr size_t TILE = 64 / sizeof(T) < 16 ? 64 / sizeof(T) : 16;
    for (size_t band = 0; band < rows; band += BAND) {
        const size_t end = rows - band < BAND ? rows : band + BAND;
        for (size_t c = 0; c < columns; c += TILE)
            for (size_t r = band; r < end; r += TILE) {
                const size_t height = end - r < TILE ? end - r : TILE, width = columns - c < TILE ? columns - c : TILE;
                T tile[TILE][TILE];
                if (height == TILE && width == TILE) {
                    for (size_t i = 0; i < TILE; ++i) std::memcpy(tile[i], from + (r + i) * from_stride + c, sizeof tile[i]);
                    for (size_t j = 0; j < TILE; ++j) {
                        T line[TILE];
                        for (size_t i = 0; i < TILE; ++i) line[i] = tile[i][j];
                        std::memcpy(to + (c + j) * to_stride + r, line, sizeof line);
                    }
                } else {
                    for (size_t j = 0; j < width; ++j)
                        for (size_t i = 0; i < height; ++i)
                            to[(c + j) * to_stride + r + i] = from[(r + i) * from_stride + c + j];
                }
            }
    }
}

}  // namespace latq::LATQ_TARGET
