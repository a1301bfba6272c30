// What the pieces of module.cpp share: arrays as they come from Python, checks of them, the kernels in use.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>

#include "kernels.hpp"

namespace nb = nanobind;

namespace latq {

template <class T, size_t DIMS>
using Array = nb::ndarray<T, nb::ndim<DIMS>, nb::c_contig, nb::device::cpu>;

using Octets = Array<const uint8_t, 1>;

// Those of the instruction set in use.
extern const Kernels* active;

// Functions of the module, one set for each of the other sources.
void bind_points(nb::module_& m);
void bind_symbols(nb::module_& m);
void bind_nested(nb::module_& m);
void bind_rows(nb::module_& m);

inline void require(bool held, const char* what) {
    if (!held) throw std::invalid_argument(what);
}

inline bool is_power_of_two(size_t n) { return n && !(n & (n - 1)); }

struct alignas(64) Line {
    char bytes[64];
};

inline std::unique_ptr<Line[]> scratch_of(size_t size) {
    return std::unique_ptr<Line[]>(new Line[size / sizeof(Line) + 1]);
}

// A function whose arrays are taken as they are, never as converted copies.
template <size_t... I, class Function>
void add(nb::module_& m, const char* name, Function* function, std::index_sequence<I...>) {
    m.def(name, function, ((void)I, nb::arg().noconvert())...);
}

template <class Result, class... Arguments>
void add(nb::module_& m, const char* name, Result (*function)(Arguments...)) {
    add(m, name, function, std::index_sequence_for<Arguments...>{});
}

}  // namespace latq
