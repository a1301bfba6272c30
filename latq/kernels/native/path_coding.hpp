// Coding of integers along paths (spec section 8.5): paths.path_costs, encode_paths and decode_paths without the
// packing of their inputs. A row is a block of every path.
#pragma once

#include "kernels.hpp"
#include "layout.hpp"
#include "near.hpp"
#include "points.hpp"
#include "rans.hpp"
#include "rows.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

// Where the blocks of paths are; the last may end before the others.
struct PathBlocks {
    size_t blocks, lanes, length;

    PathBlocks(size_t blocks, size_t lanes) : blocks(blocks), lanes(lanes), length(path_blocks(blocks, lanes)) {}
    size_t of(size_t lane, size_t row) const { return lane * length + row; }
    size_t lanes_at(size_t row) const { return of(lanes - 1, row) < blocks ? lanes : lanes - 1; }
};

// Tables of an integer: of its parity.
constexpr uint32_t KIND = kind_of(1);

inline void path_costs(const int32_t* values, const int32_t* classes, size_t blocks, const PointModel& model,
                       int64_t* costs) {
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        int32_t scratch[8 * W], own[W];
        if (n < W) load_some(values + 8 * b, n, scratch);
        load_classes(classes + b, n, own);
        I k[8];
        load_blocks(n < W ? scratch : values + 8 * b, k);
        const Selection of = select_tables(own, model);
        I cost{};
        for (int i = 0; i < 8; ++i) cost += gather(model.costs + KIND, place_of(k[i] >> 1, k[i] & 1, of));
        for (size_t i = 0; i < n; ++i) costs[b + i] = cost[i];
    }
}

// --- decoding -----------------------------------------------------------------------------------------------------

// A row being decoded: coded values at first, then integers. ``low`` is where the low bits of every block begin, of a
// full row ``shifts`` are their widths and ``bits`` those of coordinates 2 j and 2 j + 1, and more.
struct PathRow : Row {
    alignas(64) uint32_t states[MAX_LANES] = {};
    alignas(64) uint32_t low[MAX_LANES];
    alignas(64) uint32_t shifts[MAX_LANES];
    alignas(64) uint32_t bits[4][MAX_LANES];
};

// Decoded rows on their way to their places: as many at a time as fill a line of the cache for every path.
struct PathOutput {
    typedef Line<uint32_t>::V V;
    alignas(64) float rows[16][MAX_LANES];
    const PathBlocks& at;
    float* values;

    LATQ_INLINE float* row(size_t b, int i) { return rows[b % 2 * 8 + (size_t)i]; }

    // After the rows of block ``b`` of the first ``count`` paths.
    LATQ_INLINE void done(size_t b, size_t count) {
        if (b % 2 && count == MAX_LANES && W == 16) {
            for (size_t lane = 0; lane < MAX_LANES; lane += W) {
                V tile[W];
                for (size_t i = 0; i < W; ++i) tile[i] = load<V>(rows[i] + lane);
                transpose_tile<uint32_t>(tile);
                for (size_t i = 0; i < W; ++i) store(values + 8 * at.of(lane + i, b - 1), tile[i]);
            }
        } else if (b % 2 || b + 1 == at.length || W < 16 || at.lanes_at(b + 1) != count) {
            // What is not written yet: this block, and the one before if that waited for this one.
            const bool waited = b % 2 && W == 16 && at.lanes_at(b - 1) == count;
            for (size_t lane = 0; lane < count; ++lane)
                for (size_t c = waited ? b - 1 : b; c <= b; ++c)
                    for (int i = 0; i < 8; ++i) values[8 * at.of(lane, c) + (size_t)i] = row(c, i)[lane];
        }
    }
};

struct PathDecoder {
    Reader reader;
    Escapes escapes;
    const PointModel& model;
    uint32_t feedback, turn;
    const uint8_t* low;
    size_t low_size;
    PathRow row;

    uint32_t after(uint32_t state, uint32_t value) const {
        return state >> 1 ^ ((0u - (state & 1)) & feedback) ^ ((0u - (value >> 1 & 1)) & turn);
    }
    LATQ_INLINE U after(U state, U value) const {
        return state >> 1 ^ ((0u - (state & 1u)) & feedback) ^ ((0u - (value >> 1 & 1u)) & turn);
    }

    // Any number of lanes, lane by lane.
    void decode_few(size_t count) {
        for (uint32_t i = 0; i < 8; ++i)
            for (size_t lane = 0; lane < count; ++lane) {
                const int32_t of_class = row.classes[lane];
                const uint32_t shift = (uint32_t)model.shifts[of_class], parity = row.states[lane] & 1;
                const uint32_t table = (uint32_t)model.first[of_class] + (shift ? 0 : 1 + parity);
                const uint32_t found = decode_lane<PRECISION>(reader, lane, table, model.slots, model.of_values);
                uint32_t value = (uint32_t)(found ? (int32_t)found - 128 : escapes.next());
                if (shift) value = 2 * (value << shift | low_bits(row.low[lane], i * shift, shift)) + parity;
                row.values[i][lane] = (int32_t)value;
                row.states[lane] = after(row.states[lane], value);
            }
    }

    uint32_t low_bits(size_t begin, uint32_t bit, uint32_t count) const {
        uint32_t bits = 0;
        const size_t at = begin + bit / 8, left = low_size - at;
        std::memcpy(&bits, low + at, left < 4 ? left : 4);
        return bits >> bit % 8 & ((1u << count) - 1);
    }

    // Whether rows of 32 lanes may be decoded by vectors: words for them and bytes for low bits are there to be read.
    bool plenty() const {
        return W >= 8 && reader.end - reader.words >= 16 * (ptrdiff_t)MAX_LANES &&
               (low_size == 0 || row.low[MAX_LANES - 1] + 24 <= low_size);
    }

    // Low bits of a full row.
    void load_bits() {
        for (size_t lane = 0; lane < MAX_LANES; ++lane) {
            const uint32_t shift = (uint32_t)model.shifts[row.classes[lane]];
            row.shifts[lane] = shift;
            for (uint32_t j = 0; j < 4; ++j) {
                uint64_t bits;
                std::memcpy(&bits, low + row.low[lane] + 2 * j * shift / 8, 8);
                row.bits[j][lane] = (uint32_t)(bits >> 2 * j * shift % 8);
            }
        }
    }

    // Integers from..to of block b of all paths, whatever their classes, to where they are put out.
    LATQ_INLINE void decode_full(size_t b, PathOutput& output, uint32_t from = 0, uint32_t to = 8) {
        constexpr size_t V = MAX_LANES / W;
        const uint32_t slot_mask = (1u << PRECISION) - 1;
        U tables[V], shifts[V], plain[V], states[V], x[V];
        if (low_size) load_bits();
        for (size_t v = 0; v < V; ++v) {
            const U of_class = load<U>(row.classes + v * W);
            shifts[v] = (U)gather(model.shifts, of_class);
            plain[v] = (U)(shifts[v] == 0u);
            tables[v] = (U)gather(model.first, of_class) + (plain[v] & 1u);
            states[v] = load<U>(row.states + v * W), x[v] = load<U>(reader.states + v * W);
        }
        for (uint32_t i = from; i < to; ++i) {
            U value[V];
            uint32_t escaped = 0;
            for (size_t v = 0; v < V; ++v) {
                const U table = tables[v] + (plain[v] & states[v] & 1u), slot = x[v] & slot_mask;
                const U found = gather_bytes(model.slots, (table << PRECISION) + slot);
                const U info = gather(model.of_values, (table << 8) + found);
                x[v] = refilled(reader.words, (info & 0xFFFFu) * (x[v] >> PRECISION) + slot - (info >> 16));
                value[v] = found - 128u;
                escaped |= lanes_of((I)(found == 0u)) << v * W;
            }
            if (escaped) [[unlikely]] {
                for (size_t v = 0; v < V; ++v) store(row.values[i] + v * W, value[v]);
                for (; escaped; escaped &= escaped - 1) row.values[i][__builtin_ctz(escaped)] = escapes.next();
                for (size_t v = 0; v < V; ++v) value[v] = load<U>(row.values[i] + v * W);
            }
            for (size_t v = 0; v < V; ++v) {
                if (low_size) {
                    const U pair = load<U>(row.bits[i / 2] + v * W), mask = (1u << shifts[v]) - 1u;
                    const U bits = (i % 2 ? pair >> shifts[v] : pair) & mask;
                    value[v] = shifts[v] > 0u ? 2u * (value[v] << shifts[v] | bits) + (states[v] & 1u) : value[v];
                }
                states[v] = after(states[v], value[v]);
                store(output.row(b, (int)i) + v * W, floating((I)value[v]));
            }
        }
        for (size_t v = 0; v < V; ++v) store(row.states + v * W, states[v]), store(reader.states + v * W, x[v]);
    }

#if defined(LATQ_LOOKS_UP)
    // Lanes that have one of these bits; x in some lanes, 0 in the others.
    static __mmask32 have(H x, H bits) { return _mm512_test_epi16_mask((__m512i)x, (__m512i)bits); }
    static H those(__mmask32 lanes, H x) { return (H)_mm512_maskz_mov_epi16(lanes, (__m512i)x); }

    // Full rows from block ``b`` on, as long as all are of a class whose values are mostly in registers; returns the
    // block behind them.
    size_t decode_run(size_t b, PathOutput& output) {
        const int window = model.windows[0], shift = model.shifts[0];
        if (model.classes > 1) return b;
        // An integer is in 16 bits; half a block's low bits are in 32.
        if (shift > 8) return b;
        if (shift) return window == 128 ? decode_run<128, true>(b, output) : decode_run<64, true>(b, output);
        if (window == 32) return decode_run<64, false>(b, output);
        return window == 64 ? decode_run<128, false>(b, output) : decode_run<256, false>(b, output);
    }

    // N entries: of high parts, or half of them for either parity.
    template <int N, bool SHIFTED>
    size_t decode_run(size_t b, PathOutput& output) {
        constexpr int SIZE = SHIFTED ? N : N / 2;
        const uint16_t* const starts = model.ranges + (SHIFTED ? 0 : PLACES);
        const uint16_t* const frequencies = starts + 3 * PLACES;
        const Pivots<N, SIZE, 8> even(starts, H{}), odd(starts, all_halves(N - SIZE));
        const uint32_t shift = (uint32_t)model.shifts[0];
        const H one = all_halves(1), feedback_bits = all_halves((int)feedback), turn_bits = all_halves((int)turn);
        U low, high, low_bits[2], high_bits[2];
        H state;
        const auto begin = [&] {
            low = load<U>(reader.states), high = load<U>(reader.states + W);
            state = pack(load<U>(row.states), load<U>(row.states + W));
        };
        const auto end = [&] {
            store(reader.states, low), store(reader.states + W, high);
            store(row.states, low_of(state)), store(row.states + W, high_of(state));
        };
        begin();
        for (; output.at.lanes_at(b) == MAX_LANES && b < output.at.length && plenty(); ++b) {
            if constexpr (SHIFTED)
                for (uint32_t half = 0; half < 2; ++half) {
                    const uint32_t bit = half * 4 * shift, octet = shift > 4 ? bit / 8 : 0;
                    if (half == 0 || shift > 4)
                        low_bits[half] = gather_octets(this->low, load<U>(row.low) + octet),
                        high_bits[half] = gather_octets(this->low, load<U>(row.low + W) + octet);
                    else
                        low_bits[half] = low_bits[0], high_bits[half] = high_bits[0];
                    low_bits[half] >>= bit - 8 * octet, high_bits[half] >>= bit - 8 * octet;
                }
            for (uint32_t i = 0; i < 8; ++i) {
                const H slot = pack(low & ((1u << PRECISION) - 1), high & ((1u << PRECISION) - 1));
                const __mmask32 is_odd = have(state, one);
                const H base = SHIFTED ? H{} : those(is_odd, all_halves(SIZE));
                Pivots<N, SIZE, 8> pivots = even;
                if constexpr (!SHIFTED)
                    for (int p = 0; p < 7; ++p)
                        pivots.at[p] = (H)_mm512_mask_blend_epi16(is_odd, (__m512i)even.at[p], (__m512i)odd.at[p]);
                const H found = search(starts, pivots, base, slot);
                const H frequency = look_up<N>(frequencies, found), offset = slot - look_up<N>(starts, found);
                if (_mm512_cmpge_epu16_mask((__m512i)offset, (__m512i)frequency)) [[unlikely]] {
                    end(), decode_full(b, output, i, i + 1), begin();
                    continue;
                }
                H half = found - base - (uint16_t)(SIZE / 2);
                if constexpr (SHIFTED) {
                    const uint32_t mask = (1u << shift) - 1u, bit = i % 4 * shift;
                    half = half << (uint16_t)shift | pack(low_bits[i / 4] >> bit & mask, high_bits[i / 4] >> bit & mask);
                }
                const H value = half + half + (state & one);
                state = state >> 1 ^ those(is_odd, feedback_bits) ^ those(have(SHIFTED ? half : found, one), turn_bits);
                low = refilled(reader.words, low_of(frequency) * (low >> PRECISION) + low_of(offset));
                high = refilled(reader.words, high_of(frequency) * (high >> PRECISION) + high_of(offset));
                store(output.row(b, (int)i), floating((I)((U)value << 16) >> 16));
                store(output.row(b, (int)i) + W, floating((I)value >> 16));
            }
            if constexpr (SHIFTED)
                for (size_t lane = 0; lane < MAX_LANES; lane += W) store(row.low + lane, load<U>(row.low + lane) + shift);
            output.done(b, MAX_LANES);
        }
        end();
        return b;
    }
#else
    size_t decode_run(size_t b, PathOutput&) { return b; }
#endif
};

inline bool decode_paths(const uint8_t* stream, size_t words, const uint8_t* escapes, size_t escape_count,
                         const uint8_t* low, size_t low_size, const int32_t* classes, size_t blocks, size_t lanes,
                         const PointModel& model, uint32_t h0, uint32_t h1, float* values) {
    const PathBlocks at(blocks, lanes);
    PathDecoder decoder{Reader(stream, words, lanes), {escapes, escape_count, 0}, model, h0 >> 1, h1 >> 1, low, low_size, {}};
    PathRow& row = decoder.row;
    if (low_size) {
        uint32_t begin = 0;
        for (size_t b = 0; b < blocks; begin += (uint32_t)model.shifts[classes[b++]])
            if (b % at.length == 0) row.low[b / at.length] = begin;
    }
    PathOutput output{{}, at, values};
    for (size_t b = lanes == MAX_LANES ? decoder.decode_run(0, output) : 0; b < at.length; ++b) {
        const size_t count = at.lanes_at(b);
        for (size_t lane = 0; lane < count; ++lane) row.classes[lane] = classes[at.of(lane, b)];
        if (count == MAX_LANES && decoder.plenty()) {
            decoder.decode_full(b, output);
        } else {
            decoder.decode_few(count);
            for (int i = 0; i < 8; ++i)
                for (size_t lane = 0; lane < count; ++lane) output.row(b, i)[lane] = (float)row.values[i][lane];
        }
        if (decoder.reader.dry) return false;
        for (size_t lane = 0; lane < count && low_size; ++lane)
            row.low[lane] += (uint32_t)model.shifts[row.classes[lane]];
        output.done(b, count);
    }
    return decoder.reader.sound(lanes) && decoder.escapes.taken == decoder.escapes.given;
}

// --- encoding -----------------------------------------------------------------------------------------------------

#if defined(LATQ_LOOKS_UP)
// Two blocks of each of 32 paths from ``row`` on, of one class with N entries near 0 of high parts, or half of them for
// either parity. Blocks of a path that lie in one line of the cache are read together: paths are far apart, often by a
// power of two, and a line is gone when it is asked for again.
template <int N, bool SHIFTED>
inline void encode_pair(RowWriter& writer, const int32_t* values, const PathBlocks& at, size_t row,
                        const PointModel& model) {
    constexpr uint32_t HALF = SHIFTED ? N / 2 : N / 4;
    typedef Line<uint32_t>::V V;
    V low[W], high[W];
    for (size_t i = 0; i < W; ++i)
        low[i] = load<V>(values + 8 * at.of(i, row)), high[i] = load<V>(values + 8 * at.of(W + i, row));
    transpose_tile<uint32_t>(low), transpose_tile<uint32_t>(high);
    const uint16_t* const starts = model.ranges + (SHIFTED ? 0 : PLACES);
    const int shift = model.shifts[0];
    U x_low, x_high;
    const auto begin = [&] { x_low = load<U>(writer.writer.states), x_high = load<U>(writer.writer.states + W); };
    const auto end = [&] { store(writer.writer.states, x_low), store(writer.writer.states + W, x_high); };
    begin();
    for (size_t i = W; i-- > 0;) {
        const I k_low = (I)low[i], k_high = (I)high[i];
        const U place_low = (U)((k_low >> 1 >> shift) + (int32_t)HALF), place_high = (U)((k_high >> 1 >> shift) + (int32_t)HALF);
        H place = pack(place_low & 0xFFFFu, place_high);
        if constexpr (!SHIFTED) place += pack((U)k_low & 1u, (U)k_high & 1u) * (uint16_t)(2 * HALF);
        const H start = look_up<N>(starts, place), frequency = look_up<N>(starts + 3 * PLACES, place);
        const bool near = !lanes_of((I)((place_low | place_high) >= 2 * HALF)) &&
                          !_mm512_testn_epi16_mask((__m512i)frequency, (__m512i)frequency);
        if (!near) [[unlikely]] {
            end();
            const Selection of{U{}, all<I>(shift), SHIFTED};
            for (size_t half = 0; half < 2; ++half) {
                const I k = half ? k_high : k_low;
                store(writer.infos[0] + half * W, gather(model.infos + KIND, place_of(k >> 1, k & 1, of)));
                store(writer.values[0] + half * W, SHIFTED ? k >> 1 >> shift : k);
            }
            writer.write(0, MAX_LANES), begin();
            continue;
        }
        x_high = encoded<PRECISION>(writer.writer.words, x_high, high_of(frequency), high_of(start));
        x_low = encoded<PRECISION>(writer.writer.words, x_low, low_of(frequency), low_of(start));
    }
    end();
}

inline void encode_pair(RowWriter& writer, const int32_t* values, const PathBlocks& at, size_t row,
                        const PointModel& model) {
    const int window = model.windows[0];
    if (model.shifts[0])
        return window == 128 ? encode_pair<128, true>(writer, values, at, row, model)
                             : encode_pair<64, true>(writer, values, at, row, model);
    if (window == 32) return encode_pair<64, false>(writer, values, at, row, model);
    if (window == 64) return encode_pair<128, false>(writer, values, at, row, model);
    return encode_pair<256, false>(writer, values, at, row, model);
}
constexpr bool ENCODES_PAIRS = true;
#else
inline void encode_pair(RowWriter&, const int32_t*, const PathBlocks&, size_t, const PointModel&) {}
constexpr bool ENCODES_PAIRS = false;
#endif

// As encode_points (coding.hpp).
inline void encode_paths(const int32_t* values, const int32_t* classes, size_t blocks, size_t lanes,
                         const PointModel& model, uint32_t* states, uint16_t* words, int32_t* escapes, uint8_t* low,
                         size_t low_size, size_t found[2]) {
    const PathBlocks at(blocks, lanes);
    RowWriter writer(words + 8 * blocks + WORDS_SLACK, escapes + 8 * blocks);
    for (size_t row = at.length; row-- > 0;) {
        const size_t count = at.lanes_at(row);
        if (ENCODES_PAIRS && model.classes == 1 && row % 2 && count == MAX_LANES) {
            encode_pair(writer, values, at, --row, model);
            continue;
        }
        int32_t some[8 * MAX_LANES] = {}, own[MAX_LANES];
        for (size_t lane = 0; lane < MAX_LANES; ++lane) {
            const size_t b = at.of(lane < count ? lane : count - 1, row);
            std::memcpy(some + 8 * lane, values + 8 * b, 8 * sizeof *values);
            own[lane] = classes[b];
        }
        const bool near = count == MAX_LANES && infos_near<true>(some, own, model, writer.infos);
        for (size_t lane = 0; lane < count && !near; lane += W) {
            I k[8];
            load_blocks(some + 8 * lane, k);
            const Selection of = select_tables(own + lane, model);
            for (int i = 0; i < 8; ++i) {
                store(writer.infos[i] + lane, gather(model.infos + KIND, place_of(k[i] >> 1, k[i] & 1, of)));
                store(writer.values[i] + lane, of.shift > 0 ? k[i] >> 1 >> of.shift : k[i]);
            }
        }
        writer.write(count);
    }
    writer.finish(lanes, states, found);
    for (size_t b = 0; b < blocks; ++b)
        if (const int shift = model.shifts[classes[b]]) {
            split_low(values + 8 * b, shift, low, low_size, false);
            low += shift, low_size -= (size_t)shift;
        }
}

}  // namespace latq::LATQ_TARGET
