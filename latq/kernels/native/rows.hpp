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

// Coordinates of up to 32 blocks, coded values to begin with.
struct Row {
    alignas(64) int32_t values[8][MAX_LANES];
    alignas(64) int32_t classes[MAX_LANES];
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

// Low bits of one block: 8 numbers of ``shift`` bits, the coset in the place of the last one's lowest bit. 16 bytes are
// written where there is room, else those that count.
LATQ_INLINE void split_low(const int32_t* point, int shift, uint8_t* low, size_t room) {
    const uint32_t mask = (1u << shift) - 1;
    uint64_t halves[2] = {};
    for (int i = 0; i < 8; ++i) {
        uint32_t k = (uint32_t)(point[i] >> 1) & mask;
        if (i == 7) k = (k & ~1u) | (uint32_t)(point[0] & 1);
        halves[i / 4] |= (uint64_t)k << (i % 4 * shift);
    }
    uint64_t out[2] = {halves[0], halves[1]};
    if (shift < 16) {
        out[0] |= halves[1] << (4 * shift);
        out[1] = halves[1] >> (64 - 4 * shift);
    }
    std::memcpy(low, out, room < 16 ? (size_t)shift : 16);
}

}  // namespace latq::LATQ_TARGET
