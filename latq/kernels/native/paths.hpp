// The cheapest paths through a trellis: paths.choose_paths, 2 W paths at a time.
#pragma once

#include <utility>

#include "kernels.hpp"
#include "layout.hpp"
#include "near.hpp"
#include "points.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

// A number of 16 bits for each of 2 W paths: paths 0..W-1 in the low halves of words of 32, the others in the high ones.
typedef int16_t S __attribute__((vector_size(4 * W)));
constexpr size_t PATHS = 2 * W;

LATQ_INLINE S joined(U low, U high) { return (S)((low & 0xFFFFu) | high << 16); }
LATQ_INLINE S all_paths(int value) { return S{} + (int16_t)value; }

LATQ_INLINE S least(S a, S b) {
#if defined(__AVX512F__)
    return (S)_mm512_min_epi16((__m512i)a, (__m512i)b);
#else
    return a < b ? a : b;
#endif
}

#if defined(__AVX512F__)
typedef __mmask32 PathMask;
LATQ_INLINE PathMask below(S a, S b) { return _mm512_cmplt_epi16_mask((__m512i)a, (__m512i)b); }
LATQ_INLINE PathMask have(S x, int bit) { return _mm512_test_epi16_mask((__m512i)x, (__m512i)all_paths(bit)); }
LATQ_INLINE S choose(PathMask test, S yes, S no) {
    return (S)_mm512_mask_blend_epi16(test, (__m512i)no, (__m512i)yes);
}
#else
typedef S PathMask;
LATQ_INLINE PathMask below(S a, S b) { return (S)(a < b); }
LATQ_INLINE PathMask have(S x, int bit) { return (S)((x & (int16_t)bit) != 0); }
LATQ_INLINE S choose(PathMask test, S yes, S no) { return (S)((test & yes) | (~test & no)); }
#endif

// One bit per path, that of path p at place_of_path(p).
LATQ_INLINE uint32_t bits_of(PathMask test) {
#if defined(__AVX512F__)
    return test;
#elif defined(__AVX2__)
    return (uint32_t)_mm256_movemask_epi8((__m256i)test);
#elif defined(__SSE2__)
    return (uint32_t)_mm_movemask_epi8((__m128i)test);
#else
    uint32_t bits = 0;
    for (size_t i = 0; i < PATHS; ++i) bits |= (uint32_t)(test[i] != 0) << i;
    return bits;
#endif
}

constexpr uint32_t place_of_path(size_t path) {
    const size_t element = path < W ? 2 * path : 2 * (path - W) + 1;
#if defined(__SSE2__) && !defined(__AVX512F__)
    return (uint32_t)(2 * element);
#else
    return (uint32_t)element;
#endif
}

// Numbers for each integer of a class, or of several: as many about 0 as nearly all are, where there is one class, are
// looked up in registers.
struct NearIntegers {
    int window = 0, shift = 0;  // of what is in ``costs``: integers, or their high parts
    alignas(64) uint16_t weights[PLACES];
    alignas(64) uint32_t costs[PLACES];

    // ``pairs`` as Paths::weights.
    LATQ_INLINE NearIntegers(const int32_t* pairs, const PointModel* model) {
        if (!model || model->classes > 1) return;
        shift = model->shifts[0] ? model->shifts[0] + 1 : 0;
        if (shift) {
            window = model->windows[0] < 64 ? 64 : model->windows[0];
            for (uint32_t i = 0; i < PLACES; ++i) costs[i] = (uint32_t)model->costs[kind_of(1) + i];
            return;
        }
        window = 2 * model->windows[0];
        for (uint32_t i = 0; i < PLACES; ++i) {
            weights[i] = (uint16_t)pairs[i];
            costs[i] = (uint32_t)model->costs[kind_of(1) + i / 2 + PLACES / 2 * (i % 2)];
        }
    }

#if defined(LATQ_LOOKS_UP)
    // Add the weights of the integer below, at ``place``, and of the next three; false if some are not near.
    template <int N>
    LATQ_INLINE bool weigh(S near[4], H place) const {
        const H first = place - (uint16_t)((int)PLACES / 2 - N / 2 + 1);
        if (N < (int)PLACES && _mm512_cmpge_epu16_mask((__m512i)first, (__m512i)all_halves(N - 3))) return false;
        for (int j = 0; j < 4; ++j)
            near[j] += (S)look_up<N>(weights + PLACES / 2 - N / 2, first + (uint16_t)j);
        return true;
    }

    LATQ_INLINE bool weigh(S near[4], U low, U high) const {
        const H place = pack(low, high);
        return window == 64 ? weigh<64>(near, place) : window == 128 ? weigh<128>(near, place)
             : window == 256 && weigh<256>(near, place);
    }

    // What integers cost; false if some are not near.
    template <int N>
    LATQ_INLINE bool price(I value, I& cost) const {
        const U place = (U)((value >> shift) + N / 2);
        if (lanes_of((I)(place >= (uint32_t)N))) return false;
        cost = (I)look_up<N>(costs + PLACES / 2 - N / 2, place);
        return true;
    }

    LATQ_INLINE bool price(I value, I& cost) const {
        return window == 64 ? price<64>(value, cost) : window == 128 ? price<128>(value, cost)
             : window == 256 && price<256>(value, cost);
    }
#else
    LATQ_INLINE bool weigh(S*, U, U) const { return false; }
    LATQ_INLINE bool price(I, I&) const { return false; }
#endif
};

// Paths of one stream: runs of blocks of x, each ``length`` integers long but for the last, which ends with the blocks.
struct Paths {
    const float* x;
    const int32_t* classes;
    size_t blocks, length;
    float inverse;           // integers are so many per unit of x
    const int32_t* weights;  // (classes, PLACES), those of k and k + 1 in the halves of entry k + 128; or null
    bool of_classes;         // whether there are several
    NearIntegers near;

    // W numbers from ``row`` on of a path, zeros beyond the end.
    LATQ_INLINE F numbers(size_t path, size_t row) const {
        const size_t at = path * length + row, end = 8 * blocks;
        if (at + W <= end) return load<F>(x + at);
        float some[W] = {};
        for (size_t i = 0; at + i < end && i < W; ++i) some[i] = x[at + i];
        return load<F>(some);
    }

    LATQ_INLINE int32_t class_of(size_t path, size_t row) const {
        const size_t b = (path * length + row) / 8;
        return classes[b < blocks ? b : blocks - 1];
    }

    // Where the weights of the classes of W paths begin.
    LATQ_INLINE U tables(size_t first, size_t lanes, size_t row) const {
        uint32_t of[W];
        for (size_t i = 0; i < W; ++i) of[i] = first + i < lanes ? PLACES * (uint32_t)class_of(first + i, row) : 0;
        return load<U>(of);
    }

    // Tables of W integers of a path.
    LATQ_INLINE Selection selection(size_t path, size_t row, const PointModel& model) const {
        int32_t own[W] = {};
        for (size_t i = 0; of_classes && i < W; ++i) own[i] = class_of(path, row + i);
        return select_tables(own, model);
    }
};

// W numbers of each of 2 W paths. Those of the next tile are fetched meanwhile: paths are far apart, often by a power of
// two, where the cache does not hold what is fetched ahead for it.
struct Tile {
    typedef Line<uint32_t>::V V;
    V rows[2][W];
    alignas(64) float next[PATHS][W];

    LATQ_INLINE void fetch(const Paths& paths, size_t first, size_t lanes, size_t row, size_t i) {
        for (size_t path = i; path < PATHS; path += W)
            store(next[path], first + path < lanes ? paths.numbers(first + path, row) : F{});
    }

    LATQ_INLINE void turn() {
        for (size_t half = 0; half < 2; ++half) {
            for (size_t i = 0; i < W; ++i) rows[half][i] = load<V>(next[half * W + i]);
            transpose_tile<uint32_t>(rows[half]);
        }
    }

    LATQ_INLINE F row(size_t half, size_t i) const { return (F)rows[half][i]; }
};

// The floors of W numbers, and in which 256th of the way to the next integer they are.
struct Split {
    I floor, part;

    LATQ_INLINE explicit Split(F y) {
        const F below = floor_of(y);
        floor = truncated(below);
        part = truncated(rounded((y - below) * 256.0f));
    }
};

// What the integers 0..3 modulo 4 nearest to 2 W numbers cost: paths._branch_costs.
struct Branches {
    S cost[4];

    LATQ_INLINE Branches(const Split& low, const Split& high, const Paths& paths, const U first[2]) {
        const S part = joined((U)low.part, (U)high.part), twice = part + part;
        S near[4] = {all_paths(256) + twice, S{}, all_paths(256) - twice, all_paths(1024) - twice - twice};
        const int32_t* const weights = paths.weights;
        const U places[2] = {place(low.floor), place(high.floor)};
        if (weights && !paths.near.weigh(near, places[0], places[1])) {
            const U at[2] = {places[0] + first[0], places[1] + first[1]};
            const U before[2] = {(U)gather(weights, at[0] - 1u), (U)gather(weights, at[1] - 1u)};
            const U after[2] = {(U)gather(weights, at[0] + 1u), (U)gather(weights, at[1] + 1u)};
            near[0] += joined(before[0], before[1]), near[1] += joined(before[0] >> 16, before[1] >> 16);
            near[2] += joined(after[0], after[1]), near[3] += joined(after[0] >> 16, after[1] >> 16);
        }
        const S nearest = least(least(near[0], near[1]), least(near[2], near[3]));
        for (S& cost : near) cost = least(cost - nearest, all_paths(PATH_CAP));
        // The first is for the integer below the floor.
        const S residue = joined((U)low.floor - 1u, (U)high.floor - 1u);
        const PathMask by_one = have(residue, 1), by_two = have(residue, 2);
        S turned[4];
        for (int i = 0; i < 4; ++i) turned[i] = choose(by_one, near[(i + 3) & 3], near[i]);
        for (int i = 0; i < 4; ++i) cost[i] = choose(by_two, turned[(i + 2) & 3], turned[i]);
    }

    LATQ_INLINE static U place(I floor) {
        const I low = all<I>(-127), high = all<I>(125);
        const I within = floor < low ? low : floor > high ? high : floor;
        return (U)(within + 128);
    }
};

// The trellis of paths.Trellis(H0, H1).
template <uint32_t H0, uint32_t H1>
struct Viterbi {
    static constexpr uint32_t MEMORY = 31 - __builtin_clz(H0), STATES = 1u << MEMORY, HALF = STATES / 2;
    static constexpr uint32_t FEEDBACK = H0 >> 1, TURN = H1 >> 1;

    // Metrics of all states after a row; which turn led to each is one bit per path. Those of a few states are in
    // registers, so all is unrolled.
    LATQ_INLINE static void advance(const S* from, S* to, const S cost[4], uint32_t* turns) {
        // The states before are taken in pairs u, u XOR TURN, so u lacks the highest bit of TURN.
        constexpr uint32_t BIT = 31 - __builtin_clz(TURN), LOW = (1u << BIT) - 1;
        LATQ_UNROLL
        for (uint32_t parity = 0; parity < 2; ++parity) {
            const S straight = cost[parity], crossed = cost[parity + 2];
#pragma GCC unroll 4
            for (uint32_t i = 0; i < HALF / 2; ++i) {
                const uint32_t u = (i & ~LOW) << 1 | (i & LOW), v = u ^ TURN;
                const uint32_t t = u ^ (parity ? FEEDBACK : 0), s = t ^ TURN;
                const S a = from[2 * u + parity], b = from[2 * v + parity];
                meet(a + straight, b + crossed, to[t], turns[t]);
                meet(b + straight, a + crossed, to[s], turns[s]);
            }
        }
    }

    LATQ_INLINE static void meet(S straight, S crossed, S& metric, uint32_t& turns) {
        metric = least(straight, crossed), turns = bits_of(below(crossed, straight));
    }

    LATQ_INLINE static void normalize(S* metrics) {
        S lowest = metrics[0];
        LATQ_UNROLL
        for (uint32_t s = 1; s < STATES; ++s) lowest = least(lowest, metrics[s]);
        LATQ_UNROLL
        for (uint32_t s = 0; s < STATES; ++s) metrics[s] -= lowest;
    }

    // Metrics of 2 W paths that are in the states ``start``.
    LATQ_INLINE static void begin(const uint32_t start[PATHS], S* metrics) {
        LATQ_UNROLL
        for (uint32_t s = 0; s < STATES; ++s) {
            const I is_low = (I)(load<U>(start) == s), is_high = (I)(load<U>(start + W) == s);
            metrics[s] = ~joined((U)is_low, (U)is_high) & (int16_t)PATH_FAR;
        }
    }

    // The lowest of the cheapest states of every path.
    LATQ_INLINE static void best(const S* metrics, U found[2]) {
        S lowest = metrics[0], index{};
        LATQ_UNROLL
        for (uint32_t s = 1; s < STATES; ++s) {
            index = choose(below(metrics[s], lowest), all_paths((int)s), index);
            lowest = least(lowest, metrics[s]);
        }
        found[0] = (U)index & 0xFFFFu, found[1] = (U)index >> 16;
    }

    LATQ_INLINE static U turns_of(const uint32_t* turns, U state) {
#if defined(LATQ_LOOKS_UP)
        if constexpr (STATES <= 32) return look_up<STATES <= 16 ? 16 : 32>(turns, state);
#endif
        return gather(turns, state);
    }

    // The two bits of every path before ``state``, and the state there.
    LATQ_INLINE static U back(U& state, const uint32_t* turns, U places) {
        const U turn = turns_of(turns, state) >> places & 1u, parity = state >> (MEMORY - 1);
        state = 2u * (state ^ ((0u - parity) & FEEDBACK) ^ ((0u - turn) & TURN)) + parity;
        return parity + 2u * turn;
    }

    // Residues modulo 4 of the integers of 2 W paths from ``first`` on, those of 16 rows in a word, the first lowest:
    // (length / 16, lanes). ``turns`` holds PATH_ROWS * STATES.
    static void search(const Paths& paths, size_t first, size_t lanes, uint32_t* residues, uint32_t* turns) {
        alignas(64) uint32_t start[PATHS] = {}, places[PATHS];
        for (size_t i = 0; i < PATHS; ++i) places[i] = place_of_path(i);
        for (size_t row = 0; row < paths.length; row += PATH_STRETCH) {
            const size_t left = paths.length - row, rows = left < PATH_ROWS ? left : PATH_ROWS;
            const size_t kept = left < PATH_STRETCH ? left : PATH_STRETCH;
            U state[2];
            forward(paths, first, lanes, row, rows, start, turns, state);
            for (size_t i = rows; i-- > kept;)
                for (int half = 0; half < 2; ++half) back(state[half], turns + i * STATES, load<U>(places + half * W));
            store(start, state[0]), store(start + W, state[1]);
            U word[2]{};
            for (size_t i = kept; i-- > 0;) {
                for (int half = 0; half < 2; ++half)
                    word[half] = word[half] << 2 | back(state[half], turns + i * STATES, load<U>(places + half * W));
                if (i % 16) continue;
                uint32_t* const to = residues + (row + i) / 16 * MAX_LANES + first;
                store(to, word[0]), store(to + W, word[1]);
            }
        }
    }

    // Metrics over a stretch; ``state`` are the best at its end.
    LATQ_INLINE static void forward(const Paths& paths, size_t first, size_t lanes, size_t begin_row, size_t rows,
                                    const uint32_t start[PATHS], uint32_t* turns, U state[2]) {
        S metrics[2][STATES];
        S few[STATES <= 8 ? STATES : 1];
        begin(start, STATES <= 8 ? few : metrics[0]);
        U tables[2]{};
        Tile numbers;
        for (size_t i = 0; i < W; ++i) numbers.fetch(paths, first, lanes, begin_row, i);
        for (size_t tile = 0; tile < rows; tile += W) {
            numbers.turn();
            for (size_t i = 0; i < W && tile + i < rows; ++i) {
                const size_t row = tile + i;
                if (paths.of_classes && row % 8 == 0)
                    for (size_t half = 0; half < 2; ++half)
                        tables[half] = paths.tables(first + half * W, lanes, begin_row + row);
                numbers.fetch(paths, first, lanes, begin_row + tile + W, i);
                const Split low(numbers.row(0, i) * paths.inverse), high(numbers.row(1, i) * paths.inverse);
                const Branches branches(low, high, paths, tables);
                if constexpr (STATES <= 8) {
                    S next[STATES];
                    advance(few, next, branches.cost, turns + row * STATES);
                    if (row % 8 == 7) normalize(next);
                    LATQ_UNROLL
                    for (uint32_t s = 0; s < STATES; ++s) few[s] = next[s];
                } else {
                    advance(metrics[row % 2], metrics[(row + 1) % 2], branches.cost, turns + row * STATES);
                    if (row % 8 == 7) normalize(metrics[(row + 1) % 2]);
                }
            }
        }
        best(STATES <= 8 ? few : metrics[rows % 2], state);
    }
};

// Integers of all paths by the residues found, and what they cost.
inline int64_t put_values(const Paths& paths, size_t lanes, const uint32_t* residues, const PointModel* model,
                          int32_t* values) {
    const I order = counted();
    int64_t total = 0;
    for (size_t path = 0; path < lanes; ++path) {
        const size_t begin = path * paths.length, end = 8 * paths.blocks, most = end - begin;
        const size_t rows = most < paths.length ? most : paths.length;
        I cost{};
        for (size_t row = 0; row < rows; row += W) {
            const Split of(paths.numbers(path, row) * paths.inverse);
            const uint32_t word = residues[row / 16 * MAX_LANES + path];
            const I residue = (I)(all<U>(word) >> (U)(2 * (order + (int32_t)(row % 16))) & 3u);
            const I value = of.floor - 1 + ((residue - of.floor + 1) & 3);
            const size_t n = rows - row < W ? rows - row : W;
            if (n == W) store(values + begin + row, value);
            else std::memcpy(values + begin + row, &value, n * sizeof(int32_t));
            if (!model) continue;
            I bits;
            if (!paths.near.price(value, bits))
                bits = gather(model->costs + kind_of(1),
                              place_of(value >> 1, value & 1, paths.selection(path, row, *model)));
            cost += n == W ? bits : bits & (order < (int32_t)n);
            if (row / W % 128 == 127) total += sum_of(cost), cost = I{};
        }
        total += sum_of(cost);
    }
    return total;
}

template <uint32_t H0, uint32_t H1>
inline void search_paths(const Paths& paths, size_t lanes, uint32_t* residues, uint32_t* turns) {
    for (size_t first = 0; first < lanes; first += PATHS) Viterbi<H0, H1>::search(paths, first, lanes, residues, turns);
}

template <size_t... T>
inline void search_by(size_t trellis, std::index_sequence<T...>, const Paths& paths, size_t lanes, uint32_t* residues,
                      uint32_t* turns) {
    ((trellis == T ? search_paths<TRELLISES[T].h0, TRELLISES[T].h1>(paths, lanes, residues, turns) : void()), ...);
}

inline int64_t choose_paths(const float* x, const int32_t* classes, size_t blocks, size_t lanes, float inverse,
                            const int32_t* weights, const PointModel* model, size_t trellis, int32_t* values,
                            uint32_t* scratch) {
    const size_t length = 8 * path_blocks(blocks, lanes);
    const bool of_classes = model && model->classes > 1;
    // Where all steps are small, nothing weighs anything.
    if (model && !of_classes && model->shifts[0]) weights = nullptr;
    const Paths paths{x, classes, blocks, length, inverse, weights, of_classes, NearIntegers(weights, model)};
    uint32_t* const residues = scratch;
    search_by(trellis, std::make_index_sequence<TRELLIS_COUNT>(), paths, lanes, residues,
              scratch + residues_size(length));
    return put_values(paths, lanes, residues, model, values);
}

}  // namespace latq::LATQ_TARGET
