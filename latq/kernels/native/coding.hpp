// Coding of points (spec section 8.3): points.encode_points and points.decode_points without the packing of their
// inputs.
#pragma once

#include "kernels.hpp"
#include "near.hpp"
#include "points.hpp"
#include "rans.hpp"
#include "rows.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

// One row of ``count`` blocks, lane by lane.
inline void decode_row(Reader& reader, Escapes& escapes, size_t count, const PointModel& model, Row& row) {
    int32_t first[MAX_LANES], coset[MAX_LANES] = {}, parity[MAX_LANES] = {};
    bool shifted[MAX_LANES];
    for (size_t lane = 0; lane < count; ++lane) {
        first[lane] = model.first[row.classes[lane]];
        shifted[lane] = model.shifts[row.classes[lane]] > 0;
    }
    for (int i = 0; i < 8; ++i)
        for (size_t lane = 0; lane < count; ++lane) {
            const int32_t further = i == 0 ? 0 : i < 7 ? 1 + coset[lane] : 3 + coset[lane] + 2 * parity[lane];
            const int32_t table = first[lane] + (shifted[lane] ? 0 : further);
            const uint32_t found = decode_lane<PRECISION>(reader, lane, (uint32_t)table, model.slots, model.of_values);
            const int32_t value = found ? (int32_t)found - 128 : escapes.next();
            row.values[i][lane] = value;
            if (i == 0) coset[lane] = value & 1;
            // Escapes are any integers, so the difference may wrap.
            parity[lane] ^= (int32_t)(((uint32_t)value - (uint32_t)coset[lane]) >> 1 & 1u);
        }
}

// Coordinates from ``begin`` on of a row of 32 blocks; 32 words for each are there to be read.
LATQ_INLINE void decode_from(int begin, Reader& reader, Escapes& escapes, const PointModel& model, Row& row) {
    constexpr size_t V = MAX_LANES / W;
    U first[V];
    I shifted[V], coset[V], parity[V];
    for (size_t v = 0; v < V; ++v) {
        const U of_class = load<U>(row.classes + v * W);
        first[v] = (U)gather(model.first, of_class), shifted[v] = gather(model.shifts, of_class) > 0;
        coset[v] = load<I>(row.values[0] + v * W) & 1;
        parity[v] = I{};
        for (int i = 0; i < begin; ++i) parity[v] ^= (load<I>(row.values[i] + v * W) - coset[v]) >> 1 & 1;
    }
    for (int i = begin; i < 8; ++i) {
        uint32_t escaped = 0;
        for (size_t v = 0; v < V; ++v) {
            I table = i == 0 ? I{} : i < 7 ? 1 + coset[v] : 3 + coset[v] + 2 * parity[v];
            table &= ~shifted[v];
            const U found = decode_lanes<PRECISION>(reader, v * W, first[v] + (U)table, model.slots, model.of_values);
            const I value = (I)found - 128;
            escaped |= lanes_of((I)(found == 0u)) << v * W;
            store(row.values[i] + v * W, value);
            if (i == 0) coset[v] = value & 1;
            parity[v] ^= (value - coset[v]) >> 1 & 1;
        }
        if (escaped) [[unlikely]] {
            for (; escaped; escaped &= escaped - 1) row.values[i][__builtin_ctz(escaped)] = escapes.next();
            for (size_t v = 0; v < V; ++v) {
                parity[v] = I{};
                coset[v] = load<I>(row.values[0] + v * W) & 1;
                for (int j = 0; j <= i; ++j) parity[v] ^= (load<I>(row.values[j] + v * W) - coset[v]) >> 1 & 1;
            }
        }
    }
}

inline void decode_full_row(Reader& reader, Escapes& escapes, const PointModel& model, Row& row) {
    const int near = decode_near(reader, model, row);
    // From a constant on it is faster.
    if (near == 0) decode_from(0, reader, escapes, model, row);
    else if (near < 8) decode_from(near, reader, escapes, model, row);
}

inline bool decode_points(const uint8_t* stream, size_t words, const uint8_t* escapes, size_t escape_count,
                          const uint8_t* low, size_t low_size, const int32_t* classes, size_t blocks, size_t lanes,
                          const PointModel& model, float* points) {
    Reader reader(stream, words, lanes);
    Escapes left{escapes, escape_count, 0};
    const uint8_t* low_end = low + low_size;
    Row row;
    for (size_t b = 0; b < blocks; b += lanes) {
        const size_t count = blocks - b < lanes ? blocks - b : lanes;
        std::memcpy(row.classes, classes + b, count * sizeof *classes);
        if (W >= 8 && count == MAX_LANES && reader.end - reader.words >= 16 * (ptrdiff_t)MAX_LANES) {
            decode_full_row(reader, left, model, row);
        } else {
            decode_row(reader, left, count, model, row);
        }
        if (reader.dry) return false;
        if (low_size) low = join_low_bits(row, count, model, low, low_end);
        size_t lane = 0;
        for (; lane + W <= count; lane += W) {
            F x[8];
            for (int i = 0; i < 8; ++i) x[i] = floating(load<I>(row.values[i] + lane));
            store_blocks(points + 8 * (b + lane), x);
        }
        for (; lane < count; ++lane)
            for (int i = 0; i < 8; ++i) points[8 * (b + lane) + i] = (float)row.values[i][lane];
    }
    return reader.sound(lanes) && left.taken == left.given;
}

// ``words`` and ``escapes`` hold 8 per block, and WORDS_SLACK more words; both are filled from the end. The numbers of
// words and escapes come back in ``found``, the start states in ``states``.
inline void encode_points(const int32_t* points, const int32_t* classes, size_t blocks, size_t lanes,
                          const PointModel& model, uint32_t* states, uint16_t* words, int32_t* escapes, uint8_t* low,
                          size_t low_size, size_t found[2]) {
    const uint8_t* const low_end = low + low_size;
    RowWriter writer(words + 8 * blocks + WORDS_SLACK, escapes + 8 * blocks);
    for (size_t row = (blocks + lanes - 1) / lanes; row-- > 0;) {
        const size_t b = row * lanes, count = blocks - b < lanes ? blocks - b : lanes;
        const bool near = count == MAX_LANES && infos_near(points + 8 * b, classes + b, model, writer.infos);
        // Whole vectors of blocks, of which the last may be beyond the end: those come from a copy.
        for (size_t lane = 0; lane < count && !near; lane += W) {
            const size_t n = count - lane < W ? count - lane : W;
            int32_t scratch[8 * W], own[W];
            if (n < W) load_some(points + 8 * (b + lane), n, scratch);
            load_classes(classes + b + lane, n, own);
            I p[8];
            load_blocks(n < W ? scratch : points + 8 * (b + lane), p);
            const Selection of = select_tables(own, model);
            for (int i = 0; i < 8; ++i) {
                const I k = p[i] >> 1;
                store(writer.infos[i] + lane, gather(model.infos + kind_of(i), place_of(k, p[0] & 1, of)));
                store(writer.values[i] + lane, of.shift > 0 ? k >> of.shift : p[i]);
            }
        }
        writer.write(count);
    }
    writer.finish(lanes, states, found);
    for (size_t b = 0; b < blocks; ++b)
        if (const int shift = model.shifts[classes[b]]) {
            split_low(points + 8 * b, shift, low, (size_t)(low_end - low));
            low += shift;
        }
}

}  // namespace latq::LATQ_TARGET

