// Python module latq.kernels._core: checks sizes, releases the GIL, calls the kernels of the chosen instruction set.
// Arrays that a kernel fills are allocated by the caller, latq/kernels/compiled.py. Functions are in the bind_*.cpp.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <bit>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "binding.hpp"
#include "memory.hpp"

// Sections are little-endian, and so is every machine that this is for.
static_assert(std::endian::native == std::endian::little);

namespace latq {
namespace baseline {
extern const Kernels kernels;
}
#if defined(LATQ_X86)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512vnni {
extern const Products product_kernels;
}
#endif

namespace {

#if defined(LATQ_X86)
// avx512, but for products.
const Kernels* with_vnni() {
    static const Kernels kernels = [] {
        Kernels all = avx512::kernels;
        all.name = "avx512vnni", all.products = avx512vnni::product_kernels;
        return all;
    }();
    return &kernels;
}
#endif

// Those that this processor runs, best last.
std::vector<const Kernels*> available() {
    std::vector<const Kernels*> found{&baseline::kernels};
#if defined(LATQ_X86)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) {
        found.push_back(&avx2::kernels);
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
            found.push_back(&avx512::kernels);
            if (__builtin_cpu_supports("avx512vnni")) found.push_back(with_vnni());
        }
    }
#endif
    return found;
}

}  // namespace

const Kernels* active = available().back();

namespace {

std::vector<std::string> names() {
    std::vector<std::string> found;
    for (const Kernels* kernels : available()) found.emplace_back(kernels->name);
    return found;
}

void use(const std::string& name) {
    for (const Kernels* kernels : available())
        if (name == kernels->name) {
            active = kernels;
            return;
        }
    throw std::invalid_argument("this processor or build has no instruction set " + name);
}

size_t window_of(size_t n) {
    size_t window = 1;
    while (2 * window <= n) window *= 2;
    return window;
}

void fwht(Array<float, 2> x) {
    require(is_power_of_two(x.shape(1)), "fwht: the length is not a power of two");
    nb::gil_scoped_release unlocked;
    active->fwht(x.data(), x.shape(0), x.shape(1));
}

// An array of so many bytes, not cleared.
nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> new_bytes(size_t size) {
    static Memory& memory = *new Memory;  // Arrays may outlive all that is destroyed at the end.
    const Memory::Piece piece = memory.take(size);
    if (!piece.at) throw std::bad_alloc();
    nb::capsule owner(new Memory::Piece(piece), [](void* held) noexcept {
        memory.give_back(*(Memory::Piece*)held);
        delete (Memory::Piece*)held;
    });
    return {piece.at, {size}, owner};
}

template <auto KERNEL>
void turn(Array<const float, 2> x, Array<float, 2> y, Array<const uint8_t, 2> signs) {
    const size_t rows = x.shape(0), n = x.shape(1), window = window_of(n);
    require(n >= 1 && y.shape(0) == rows && y.shape(1) == n, "rotation: shapes differ");
    require(signs.shape(0) == (window == n ? 1u : 4u) && signs.shape(1) == (window + 7) / 8,
            "rotation: wrong number of signs");
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)(x.data(), y.data(), rows, n, signs.data());
}

}  // namespace
}  // namespace latq

NB_MODULE(_core, m) {
    using namespace latq;
    m.attr("WORDS_SLACK") = WORDS_SLACK;
    m.def("available", &names);
    m.def("use", &use);
    m.def("active", [] { return std::string(active->name); });
    m.def("new_bytes", &new_bytes);
    add(m, "fwht", &fwht);
    add(m, "rotate", &turn<&Kernels::rotate>);
    add(m, "unrotate", &turn<&Kernels::unrotate>);
    bind_points(m);
    bind_symbols(m);
    bind_nested(m);
    bind_rows(m);
}
