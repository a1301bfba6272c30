// Choice of lattice points under a model: points.choose_points, W blocks at a time.
#pragma once

#include "kernels.hpp"
#include "points.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

// points.weights: what every entry of a model counts for beside the distance.
inline void weigh(const PointModel& model, float worth, float shrink, float* weights) {
    for (size_t c = 0; c < model.classes; ++c)
        for (size_t i = 3 * PLACES * c; i < 3 * PLACES * (c + 1); ++i) {
            const int place = (int)(i % PLACES);
            const float value = (float)((place & 127) - 64) + (place < 128 ? 0.0f : 0.5f);
            const bool counts = model.shifts[c] == 0 && model.infos[i] >> 16 != 0;
            weights[i] = worth * (float)model.costs[i] - shrink * (counts ? value * value : 0.0f);
        }
}

// Weights and costs of the blocks of one class or of several: where half a doubled coordinate of a coset is in the
// tables, the weight there for coordinate i, and what k costs if it is of the one coset or the other.

// Looked up in memory.
struct AnyTables {
    const float* weights;
    const int32_t* costs;
    Selection of;
    F origin;
    I origin_cost;

    LATQ_INLINE AnyTables(const float* weights, const PointModel& model, const int32_t* classes)
        : weights(weights), costs(model.costs), of(select_tables(classes, model)) {
        for (size_t i = 0; i < W; ++i)
            origin[i] = origin_of(weights, model, classes[i]), origin_cost[i] = model.origin[classes[i]];
    }

    // Weight of the origin under the tables of a class: of zeros, added up in order.
    static float origin_of(const float* weights, const PointModel& model, int32_t of_class) {
        weights += 3 * PLACES * (size_t)of_class + (model.shifts[of_class] ? 128 : 64);
        float sum = weights[0];
        for (int i = 1; i < 8; ++i) sum += weights[kind_of(i)];
        return sum;
    }

    LATQ_INLINE U place(I k, int coset) const { return place_of(k, all<I>(coset), of); }
    LATQ_INLINE F weight(int i, int, U place) const { return (F)gather((const int32_t*)weights + kind_of(i), place); }
    LATQ_INLINE I cost(int i, M is_half, I k) const {
        return gather(costs + kind_of(i), place_of(k, select(is_half, all<I>(1), I{}), of));
    }
    LATQ_INLINE bool cover(U) const { return true; }
};

#if defined(LATQ_LOOKS_UP)
// Blocks of one class: N entries of each table, looked up in registers.
template <int N, bool SHIFTED>
struct NearTables {
    const uint32_t *weights, *costs;
    int shift;
    F origin;
    I origin_cost;

    LATQ_INLINE NearTables(const float* all_weights, const PointModel& model, const int32_t* classes) {
        const int32_t of_class = classes[0];
        const size_t first = 3 * PLACES * (size_t)of_class + (SHIFTED ? 128 : 64) - N / 2;
        weights = (const uint32_t*)all_weights + first, costs = (const uint32_t*)model.costs + first;
        shift = model.shifts[of_class];
        origin = all<F>(AnyTables::origin_of(all_weights, model, of_class));
        origin_cost = all<I>(model.origin[of_class]);
    }

    static constexpr int APART = SHIFTED ? 0 : 128;  // from the entries of one coset to those of the other

    LATQ_INLINE U place(I k, int) const { return (U)((SHIFTED ? k >> shift : k) + N / 2); }
    LATQ_INLINE F weight(int i, int coset, U place) const {
        return (F)look_up<N>(weights + kind_of(i) + coset * APART, place);
    }
    LATQ_INLINE I cost(int i, M is_half, I k) const {
        const uint32_t* const table = costs + kind_of(i);
        return select(is_half, (I)look_up<N>(table + APART, place(k, 1)), (I)look_up<N>(table, place(k, 0)));
    }
    // Whether N entries were enough; ``places`` is the union of all.
    LATQ_INLINE bool cover(U places) const { return lanes_of((I)(places >= (uint32_t)N)) == 0; }
};
#endif

// Choose for W blocks of 8 numbers. Adds what the points cost to ``cost``; false if the tables do not cover them.
template <class Tables>
LATQ_INLINE bool choose(const float* x, float inverse, const Tables& tables, int32_t* points, I& cost) {
    F y[8];
    load_blocks(x, y);
    for (int i = 0; i < 8; ++i) y[i] *= inverse;
    Cosets cosets(y);
    F whole{}, half{}, farther{};
    I of_whole[8], of_half[8];
    U places{};
    for (int i = 0; i < 8; ++i) {
        const Cosets::Coordinate k = cosets.next(y[i], i);
        const U at_whole = tables.place(k.whole, 0), at_half = tables.place(k.half, 1);
        const F w = floating(k.whole), more = w * (y[i] + (y[i] - w));
        const F weight = tables.weight(i, 0, at_whole), half_weight = tables.weight(i, 1, at_half);
        places |= at_whole | at_half;
        whole = i == 0 ? weight : whole + weight;
        half = i == 0 ? half_weight : half + half_weight;
        farther = i == 0 ? more : farther + more;
        of_whole[i] = k.whole, of_half[i] = k.half;
    }
    if (!tables.cover(places)) [[unlikely]] return false;
    half -= cosets.balance;
    const F origin = tables.origin + farther;
    const M is_half = less(half, whole), is_origin = less(origin, half < whole ? half : whole);
    const I coset = select(is_half, all<I>(1), I{});
    I chosen[8], bits{};
    for (int i = 0; i < 8; ++i) {
        const I k = select(is_half, of_half[i], of_whole[i]);
        bits += tables.cost(i, is_half, k);
        chosen[i] = select(is_origin, I{}, k + k + coset);
    }
    store_blocks(points, chosen);
    cost += select(is_origin, tables.origin_cost, bits);
    return true;
}

struct Chooser {
    const float* x;
    const int32_t* classes;
    float inverse;
    const PointModel& model;
    int32_t* points;
    const float* weights;

    static int64_t sum(I costs) {
        int64_t total = 0;
        for (size_t i = 0; i < W; ++i) total += costs[i];
        return total;
    }

    // W blocks of any classes.
    [[gnu::noinline]] I choose_any(size_t b) const {
        I cost{};
        choose(x + 8 * b, inverse, AnyTables(weights, model, classes + b), points + 8 * b, cost);
        return cost;
    }

    // Of the ``blocks`` from b on, vectors of one class, so few that their costs add up in 32 bits.
    template <class Tables>
    [[gnu::noinline]] int64_t choose_run(size_t b, size_t blocks) const {
        const Tables tables(weights, model, classes + b);
        I cost{};
        for (const size_t end = b + blocks; b < end; b += W)
            if (!choose(x + 8 * b, inverse, tables, points + 8 * b, cost)) [[unlikely]] cost += choose_any(b);
        return sum(cost);
    }

    template <bool SHIFTED>
    int64_t choose_run(size_t b, size_t blocks) const {
#if defined(LATQ_LOOKS_UP)
        const int entries = model.windows[classes[b]];
        if (entries == 32) return choose_run<NearTables<32, SHIFTED>>(b, blocks);
        if (entries == 64) return choose_run<NearTables<64, SHIFTED>>(b, blocks);
        return choose_run<NearTables<128, SHIFTED>>(b, blocks);
#else
        return choose_run<AnyTables>(b, blocks);
#endif
    }

    // Whole vectors from b on that are all of one class.
    size_t run_from(size_t b, size_t blocks) const {
        const size_t most = blocks - b < 64 * W ? (blocks - b) / W * W : 64 * W;
        if (model.classes == 1) return most;
        size_t run = 0;
        const I own = all<I>(classes[b]);
        while (run < most && lanes_of(load<I>(classes + b + run) != own) == 0) run += W;
        return run;
    }

    int64_t choose_all(size_t blocks) const {
        int64_t total = 0;
        for (size_t b = 0; b + W <= blocks;) {
            const size_t run = run_from(b, blocks);
            if (run) total += model.shifts[classes[b]] ? choose_run<true>(b, run) : choose_run<false>(b, run);
            else total += sum(choose_any(b));
            b += run ? run : W;
        }
        return total;
    }
};

inline int64_t choose_points(const float* x, const int32_t* classes, size_t blocks, float inverse, float worth,
                             float shrink, const PointModel& model, int32_t* points, float* weights) {
    weigh(model, worth, shrink, weights);
    int64_t total = Chooser{x, classes, inverse, model, points, weights}.choose_all(blocks);
    if (const size_t n = blocks % W) {
        const size_t b = blocks - n;
        float some[8 * W];
        int32_t own[W], found[8 * W];
        load_some(x + 8 * b, n, some);
        load_classes(classes + b, n, own);
        const I costs = Chooser{some, own, inverse, model, found, weights}.choose_any(0);
        std::memcpy(points + 8 * b, found, 8 * n * sizeof *found);
        for (size_t i = 0; i < n; ++i) total += costs[i];
    }
    return total;
}

}  // namespace latq::LATQ_TARGET
