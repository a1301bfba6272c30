// Coding of points (spec section 8.3): points.encode_points and points.decode_points without the packing of their
// inputs. Several streams are decoded at a time, because the symbols of one wait for each other.
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "halves.hpp"
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

// W blocks, coordinate by coordinate; ``beyond`` says which have a number that an integer of type Out does not hold.
template <class Out>
LATQ_INLINE void store_points(const I x[8], Out* to, I& beyond) {
    if constexpr (std::is_same_v<Out, float>) {
        F converted[8];
        for (int i = 0; i < 8; ++i) converted[i] = floating(x[i]);
        store_blocks(to, converted);
    } else {
        int32_t wide[8 * W];
        constexpr int32_t MOST = std::numeric_limits<Out>::max();
        for (int i = 0; i < 8; ++i) beyond |= (I)((U)x[i] + (uint32_t)MOST > 2u * MOST);
        store_blocks(wide, x);
        for (size_t i = 0; i < 8 * W; ++i) to[i] = (Out)wide[i];
    }
}

// One of the streams that decode_points is given.
template <class Out>
struct PointReader {
    const PointStream& given;
    const PointModel& model;
    Reader reader;
    Escapes escapes;
    const uint8_t *low, *const low_end;
    Out* points;
    size_t at = 0;
    I beyond{};
    Row row;

    PointReader(const PointStream& given, const PointModel& model)
        : given(given), model(model), reader(given.stream, given.words, given.lanes),
          escapes{given.escapes, given.escape_count, 0}, low(given.low), low_end(low + given.low_size),
          points((Out*)given.points) {}

    bool left() const { return at < given.blocks && !reader.dry; }

    // Whether the next row has all lanes, and all words that it may take are there.
    bool full() const {
        return W >= 8 && left() && given.lanes == MAX_LANES && given.blocks - at >= MAX_LANES &&
               reader.end - reader.words >= 16 * (ptrdiff_t)MAX_LANES;
    }

    void load_row(size_t count) { std::memcpy(row.classes, given.classes + at, count * sizeof *row.classes); }

    // The rest of a full row, of which ``near`` coordinates are known.
    void finish_full(int near) {
        if (near == 8 && !given.low_size) return store_near();
        spread(near);
        // From a constant on it is faster.
        if (near == 0) decode_from(0, reader, escapes, model, row);
        else if (near < 8) decode_from(near, reader, escapes, model, row);
        finish(MAX_LANES);
    }

    void decode_some() {
        const size_t count = std::min(given.blocks - at, given.lanes);
        load_row(count);
        decode_row(reader, escapes, count, model, row);
        finish(count);
    }

    Found found() const {
        if (!reader.sound(given.lanes) || escapes.taken != escapes.given) return Found::DAMAGED;
        return lanes_of(beyond) ? Found::BEYOND : Found::SOUND;
    }

  private:
    void finish(size_t count) {
        if (reader.dry) return;
        if (given.low_size) low = join_low_bits(row, count, model, low, low_end);
        for (size_t lane = 0; lane < count; lane += W) {
            I x[8];
            for (int i = 0; i < 8; ++i) x[i] = load<I>(row.values[i] + lane);
            Out* const to = points + 8 * (at + lane);
            if (lane + W <= count) {
                store_points(x, to, beyond);
            } else {
                Out some[8 * W];
                I of_some{};
                store_points(x, some, of_some);
                for (size_t i = 0; i < count - lane; ++i) beyond[i] |= of_some[i];
                std::copy_n(some, 8 * (count - lane), to);
            }
        }
        at += count;
    }

#if defined(LATQ_LOOKS_UP)
    void spread(int near) { spread_near(row, near); }

    // A row of which all values are near.
    void store_near() {
        H x[8], order;
        for (size_t i = 0; i < MAX_LANES; ++i) order[i] = (uint16_t)half_of(turned_place(i));
        for (int i = 0; i < 8; ++i)
            x[i] = (H)_mm512_permutexvar_epi16((__m512i)order, _mm512_load_si512(row.near[i]));
        turn_lanes(x);
        typedef Out Numbers __attribute__((vector_size(MAX_LANES * sizeof(Out))));
        LATQ_UNROLL
        for (size_t k = 0; k < 8; ++k)
            store(points + 8 * at + k * MAX_LANES, __builtin_convertvector((J)x[k], Numbers));
        at += MAX_LANES;
    }
#else
    void spread(int) {}
    void store_near() {}
#endif
};

template <class Out, size_t K>
inline void decode_together(PointStream* streams, const PointModel& model) {
    [&]<size_t... k>(std::index_sequence<k...>) {
        PointReader<Out> own[] = {{streams[k], model}...};
        Reader* const readers[] = {&own[k].reader...};
        uint16_t (*const values[])[MAX_LANES] = {own[k].row.near...};
        while ((own[k].full() && ...)) {
            (own[k].load_row(MAX_LANES), ...);
            const Nearness near[] = {{own[k].row.classes, model}...};
            int done[K];
            decode_near<K>(readers, near, values, done);
            (own[k].finish_full(done[k]), ...);
        }
        const auto rest = [](PointReader<Out>& reader) {
            while (reader.left()) reader.decode_some();
        };
        (rest(own[k]), ...);
        ((streams[k].found = own[k].found()), ...);
    }(std::make_index_sequence<K>());
}

template <class Out>
inline void decode_points(PointStream* streams, size_t count, const PointModel& model) {
    for (; count >= POINT_STREAMS; streams += POINT_STREAMS, count -= POINT_STREAMS)
        decode_together<Out, POINT_STREAMS>(streams, model);
    for (; count > 0; ++streams, --count) decode_together<Out, 1>(streams, model);
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

