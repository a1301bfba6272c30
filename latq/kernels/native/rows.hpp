// Rows of up to 32 blocks on their way from and to a stream: escaped values, and the low bits of coordinates.
#pragma once

#include "kernels.hpp"
#include "rans.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

// Escaped values in the order of the stream; as many as there are, then none.
struct Escapes {
    const uint8_t* at;  // int32 each, little-endian
    size_t given, taken;

    int32_t next() {
        int32_t value = 0;
        if (taken < given) std::memcpy(&value, at + 4 * taken, 4);
        ++taken;
        return value;
    }
};

// Coordinates of up to 32 blocks, coded values to begin with; ``near`` are those that near.hpp finds.
struct Row {
    alignas(64) int32_t values[8][MAX_LANES];
    alignas(64) uint16_t near[8][MAX_LANES];
    alignas(64) int32_t classes[MAX_LANES];
};

// Rows being written, the last first: frequency | start << 16 of every coded value, and the values.
struct RowWriter {
    alignas(64) uint32_t infos[8][MAX_LANES];
    alignas(64) int32_t values[8][MAX_LANES];
    Writer writer;
    uint16_t* const words_end;
    int32_t* escapes;
    int32_t* const escapes_end;

    RowWriter(uint16_t* words_end, int32_t* escapes_end)
        : writer(words_end), words_end(words_end), escapes(escapes_end), escapes_end(escapes_end) {}

    void write(size_t count) {
        for (int i = 8; i-- > 0;) write(i, count);
    }

    // The first ``count`` lanes of coordinate i.
    void write(int i, size_t count) {
        if (W >= 8 && count == MAX_LANES) {
            uint32_t escaped = 0;
            for (size_t lane = MAX_LANES; lane > 0;) {
                lane -= W;
                const U info = load<U>(infos[i] + lane);
                encode_lanes<PRECISION>(writer, lane, info);
                escaped |= lanes_of((I)(info >> 16 == 0u)) << lane;
            }
            for (; escaped; escaped &= ~(1u << (31 - __builtin_clz(escaped))))
                *--escapes = values[i][31 - __builtin_clz(escaped)];
        } else {
            for (size_t lane = count; lane-- > 0;) {
                encode_lane<PRECISION>(writer, lane, infos[i][lane]);
                if (infos[i][lane] >> 16 == 0) *--escapes = values[i][lane];
            }
        }
    }

    void finish(size_t lanes, uint32_t* states, size_t found[2]) const {
        std::memcpy(states, writer.states, 4 * lanes);
        found[0] = (size_t)(words_end - writer.words), found[1] = (size_t)(escapes_end - escapes);
    }
};

// High parts to doubled coordinates, with 8 numbers of ``shift`` bits at ``low``.
inline void join_low(Row& row, size_t lane, int shift, const uint8_t* low, size_t readable) {
    uint8_t octets[20] = {};
    std::memcpy(octets, low, readable < 20 ? readable : 20);
    uint32_t k[8];
    for (int i = 0; i < 8; ++i) {
        uint32_t bits;
        std::memcpy(&bits, octets + i * shift / 8, 4);
        k[i] = (uint32_t)row.values[i][lane] << shift | (bits >> (i * shift % 8) & ((1u << shift) - 1));
    }
    // The coset is in the place of the last coordinate's lowest bit, which follows from the others.
    const uint32_t coset = k[7] & 1;
    k[7] ^= coset;
    k[7] |= (k[0] ^ k[1] ^ k[2] ^ k[3] ^ k[4] ^ k[5] ^ k[6]) & 1;
    for (int i = 0; i < 8; ++i) row.values[i][lane] = (int32_t)(2 * k[i] + coset);
}

// The same for a full row, W lanes at a time; 20 bytes more than the row has low bits are readable.
LATQ_INLINE void join_low_row(Row& row, const PointModel& model, const uint32_t place[MAX_LANES], const uint8_t* low) {
    for (size_t lane = 0; lane < MAX_LANES; lane += W) {
        const U shift = (U)gather(model.shifts, load<U>(row.classes + lane));
        const U mask = (1u << shift) - 1u, from = load<U>(place + lane);
        U k[8], others{};
        for (uint32_t i = 0; i < 8; ++i) {
            const U bits = gather_octets(low, from + (i * shift >> 3)) >> (i * shift & 7u);
            k[i] = load<U>(row.values[i] + lane) << shift | (bits & mask);
            if (i < 7) others ^= k[i];
        }
        const U coset = k[7] & 1u;
        k[7] = (k[7] ^ coset) | (others & 1u);
        for (int i = 0; i < 8; ++i)
            store(row.values[i] + lane, shift > 0u ? (I)(2u * k[i] + coset) : load<I>(row.values[i] + lane));
    }
}

// Low bits of a row of blocks; returns where those of the next row begin.
inline const uint8_t* join_low_bits(Row& row, size_t count, const PointModel& model, const uint8_t* low,
                                    const uint8_t* end) {
    uint32_t place[MAX_LANES], size = 0;
    for (size_t lane = 0; lane < count; ++lane) place[lane] = size, size += (uint32_t)model.shifts[row.classes[lane]];
    if (count == MAX_LANES && (size_t)(end - low) >= size + 20) {
        join_low_row(row, model, place, low);
    } else {
        for (size_t lane = 0; lane < count; ++lane)
            if (const int shift = model.shifts[row.classes[lane]])
                join_low(row, lane, shift, low + place[lane], (size_t)(end - low) - place[lane]);
    }
    return low + size;
}

// Low bits of one block: 8 numbers of ``shift`` bits, of a point with the coset in the place of the last one's lowest
// bit. 16 bytes are written where there is room, else those that count.
LATQ_INLINE void split_low(const int32_t* point, int shift, uint8_t* low, size_t room, bool is_point = true) {
    const uint32_t mask = (1u << shift) - 1;
    uint64_t halves[2] = {};
#if defined(__AVX512F__)  // Where pext is fast.
    const uint64_t both = (uint64_t)mask << 33 | mask << 1;
    for (int i = 3; i >= 0; --i) {
        uint64_t pair;
        std::memcpy(&pair, point + 2 * i, 8);
        halves[i / 2] = halves[i / 2] << 2 * shift | _pext_u64(pair, both);
    }
    if (is_point) {
        const uint64_t lowest = (uint64_t)1 << 3 * shift;
        halves[1] = (halves[1] & ~lowest) | (uint64_t)(point[0] & 1) << 3 * shift;
    }
#else
    for (int i = 0; i < 8; ++i) {
        uint32_t k = (uint32_t)(point[i] >> 1) & mask;
        if (is_point && i == 7) k = (k & ~1u) | (uint32_t)(point[0] & 1);
        halves[i / 4] |= (uint64_t)k << (i % 4 * shift);
    }
#endif
    uint64_t first = halves[0], second = halves[1];
    if (shift < 16) first |= second << 4 * shift, second >>= 64 - 4 * shift;
    if (room >= 16) {
        std::memcpy(low, &first, 8), std::memcpy(low + 8, &second, 8);
    } else {
        const uint64_t out[2] = {first, second};
        std::memcpy(low, out, (size_t)shift);
    }
}

}  // namespace latq::LATQ_TARGET
