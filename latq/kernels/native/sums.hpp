// Sums by halving, as reference.tree_sum, with several halvings in registers. Entries that are not there are -0, which
// changes no sum; so every width of vectors gives the same bits.
#pragma once

#include "floats.hpp"

namespace latq::LATQ_TARGET {

// Doubles in a vector.
constexpr size_t DOUBLES = W / 2;

LATQ_INLINE D load_doubles(const float* x) { return doubles(load<FH>(x)); }
LATQ_INLINE D load_doubles(const double* x) { return load<D>(x); }
LATQ_INLINE D load_doubles(const int32_t* x) { return doubles(load<IH>(x)); }

// Whether all entries of a vector are known to be there.
constexpr struct Whole {
} WHOLE{};
constexpr struct Partial {
} PARTIAL{};

// A row of n entries, and how many may be read from x on.
template <class T>
struct Entries {
    const T* x;
    size_t n, readable;

    LATQ_INLINE D at(Whole, size_t i) const { return load_doubles(x + i); }

    // Entry i and those after it, whatever beyond the row.
    LATQ_INLINE D at(Partial, size_t i) const {
        if (i + DOUBLES <= readable) return load_doubles(x + i);
        T part[DOUBLES]{};
        if (i < n) std::memcpy(part, x + i, (n - i) * sizeof(T));
        return load_doubles(part);
    }

    LATQ_INLINE D only(Whole, D sum, size_t) const { return sum; }

    // The lanes of ``sum`` for entries of the row; lane 0 is that for entry i.
    LATQ_INLINE D only(Partial, D sum, size_t i) const {
        D lane;
        for (size_t k = 0; k < DOUBLES; ++k) lane[k] = (double)k;
        return lane < (double)((ptrdiff_t)n - (ptrdiff_t)i) ? sum : -D{};
    }
};

template <size_t R>
LATQ_INLINE D halved(D x[R]) {
    if constexpr (R == 1) return x[0];
    else {
        LATQ_UNROLL
        for (size_t k = 0; k < R / 2; ++k) x[k] += x[k + R / 2];
        return halved<R / 2>(x);
    }
}

// M sums over ``width`` numbers become M sums over width / R, in s, where each of them has ``stride`` numbers; ``in``
// gives the numbers, all of them there in those below n.
template <size_t R, size_t M, class In>
LATQ_INLINE void halve(size_t width, size_t n, double* s, size_t stride, In in) {
    const auto step = [=](auto whole, size_t i) {
        D x[M][R];
        LATQ_UNROLL
        for (size_t k = 0; k < R; ++k) {
            D at[M];
            in(whole, i + k * (width / R), at);
            LATQ_UNROLL
            for (size_t m = 0; m < M; ++m) x[m][k] = at[m];
        }
        LATQ_UNROLL
        for (size_t m = 0; m < M; ++m) store(s + m * stride + i, halved<R>(x[m]));
    };
    size_t i = 0;
    for (; i + (R - 1) * (width / R) + DOUBLES <= n && i < width / R; i += DOUBLES) step(WHOLE, i);
    for (; i < width / R; i += DOUBLES) step(PARTIAL, i);
}

template <size_t M, class In>
LATQ_INLINE size_t halve_once(size_t width, size_t n, double* s, size_t stride, In in) {
    constexpr size_t R = M == 1 ? 8 : 4;  // As many as the registers hold.
    if (width >= R * DOUBLES) return halve<R, M>(width, n, s, stride, in), width / R;
    if (width == 4 * DOUBLES) return halve<4, M>(width, n, s, stride, in), width / 4;
    if (width == 2 * DOUBLES) return halve<2, M>(width, n, s, stride, in), width / 2;
    return halve<1, M>(width, n, s, stride, in), width;
}

template <size_t HALF, size_t... I>
LATQ_INLINE double sum_within(D x, std::index_sequence<I...> lanes) {
    if constexpr (HALF == 0) return x[0];
    else return sum_within<HALF / 2>(x + __builtin_shufflevector(x, x, ((I + HALF) % DOUBLES)...), lanes);
}

// M sums over n entries, of which ``in(WHOLE or PARTIAL, i, x)`` gives those from i on, -0 beyond the end; s holds M
// scratch_size(n) numbers.
template <size_t M, class In>
LATQ_INLINE void sums_of(size_t n, double* s, double* sums, In in) {
    size_t width = DOUBLES;
    while (width < n) width *= 2;
    const size_t stride = width < 4 * DOUBLES ? DOUBLES : width / 4;
    width = halve_once<M>(width, n, s, stride, in);
    while (width > DOUBLES)
        width = halve_once<M>(width, width, s, stride, [=](auto, size_t i, D x[M]) {
            LATQ_UNROLL
            for (size_t m = 0; m < M; ++m) x[m] = load<D>(s + m * stride + i);
        });
    for (size_t m = 0; m < M; ++m)
        sums[m] = sum_within<DOUBLES / 2>(load<D>(s + m * stride), std::make_index_sequence<DOUBLES>());
}

}  // namespace latq::LATQ_TARGET
