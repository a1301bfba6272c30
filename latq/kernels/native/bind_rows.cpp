// Rows of matrices: sums, conversions, transposes, products.
#include <memory>
#include <type_traits>

#include "binding.hpp"

namespace latq {
namespace {

template <class T>
const Rows<T>& rows_of() {
    if constexpr (sizeof(T) == 4) return active->rows32;
    else return active->rows64;
}

template <class T>
double peak(Array<const T, 2> x) {
    nb::gil_scoped_release unlocked;
    return rows_of<T>().peak(x.data(), x.size());
}

template <class T>
void row_sums(Array<const T, 2> x, double by, Array<double, 1> sums) {
    require(x.shape(1) >= 1 && sums.shape(0) == x.shape(0), "rows: shapes differ");
    nb::gil_scoped_release unlocked;
    std::unique_ptr<double[]> scratch(new double[scratch_size(x.shape(1))]);
    rows_of<T>().sums(x.data(), x.shape(0), x.shape(1), by, sums.data(), scratch.get());
}

template <class T>
void row_squares(Array<const T, 2> x, double by, Array<const float, 1> means, Array<double, 1> sums) {
    const size_t rows = x.shape(0);
    require(x.shape(1) >= 1 && sums.shape(0) == rows && means.shape(0) == rows, "rows: shapes differ");
    nb::gil_scoped_release unlocked;
    std::unique_ptr<double[]> scratch(new double[scratch_size(x.shape(1))]);
    rows_of<T>().squares(x.data(), rows, x.shape(1), by, means.data(), sums.data(), scratch.get());
}

template <class T>
void divided(Array<const T, 2> x, double by, Array<const float, 1> means, Array<const double, 1> inverses,
             Array<float, 2> out) {
    const size_t rows = x.shape(0);
    require(means.shape(0) == rows && inverses.shape(0) == rows, "rows: shapes differ");
    require(out.shape(0) == rows && out.shape(1) == x.shape(1), "rows: shapes differ");
    nb::gil_scoped_release unlocked;
    rows_of<T>().divided(x.data(), rows, x.shape(1), by, means.data(), inverses.data(), out.data());
}

template <class T>
Moments<T>* moments_of() {
    if constexpr (std::is_same_v<T, float>) return active->moments_float;
    else return active->moments_int;
}

template <class T>
void row_moments(Array<const float, 2> u, Array<const T, 2> v, Array<double, 2> sums) {
    const size_t rows = u.shape(0), n = u.shape(1), k = v.shape(1);
    require(n >= k && k >= 1 && v.shape(0) == rows, "rows: shapes differ");
    require(sums.shape(0) == rows && sums.shape(1) == 3, "rows: shapes differ");
    nb::gil_scoped_release unlocked;
    std::unique_ptr<double[]> scratch(new double[3 * scratch_size(n)]);
    moments_of<T>()(u.data(), v.data(), rows, n, k, sums.data(), scratch.get());
}

// T is a float type, and Stored what an array of it is called: nanobind knows those of C++.
template <class T, class Stored, auto KERNEL>
void restored(Array<const float, 2> x, Array<const double, 1> scales, Array<const double, 1> means, double by,
              Array<Stored, 2> out) {
    const size_t rows = x.shape(0), n = x.shape(1);
    require(scales.shape(0) == rows && means.shape(0) == rows, "rows: shapes differ");
    require(out.shape(0) == rows && out.shape(1) == n, "rows: shapes differ");
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)(x.data(), rows, n, scales.data(), means.data(), by, (T*)out.data());
}

template <class T, auto KERNEL>
void widen(Array<const uint16_t, 1> x, Array<float, 1> out) {
    require(out.shape(0) == x.shape(0), "rows: shapes differ");
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)((const T*)x.data(), x.shape(0), out.data());
}

// Entries of a row must be neighbours; rows may be apart.
template <class T>
using Matrix = nb::ndarray<T, nb::ndim<2>, nb::device::cpu>;

// Whether the entries of a row are neighbours, and rows follow each other.
template <class T>
bool has_rows(const Matrix<T>& x) {
    return x.stride(1) == 1 && x.stride(0) >= (int64_t)x.shape(1);
}

template <class T, auto KERNEL>
void transpose(Matrix<const T> from, Matrix<T> to) {
    const size_t rows = from.shape(0), columns = from.shape(1);
    require(to.shape(0) == columns && to.shape(1) == rows, "transpose: shapes differ");
    require(has_rows(from) && has_rows(to), "transpose: entries of a row are not neighbours");
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)(from.data(), (size_t)from.stride(0), to.data(), (size_t)to.stride(0), rows, columns);
}

template <class T, auto KERNEL>
bool narrowed(Array<const float, 2> x, Array<T, 2> out, Array<double, 1> squares) {
    const size_t rows = x.shape(0), n = x.shape(1);
    require(out.shape(0) == rows && out.shape(1) == n && squares.shape(0) == rows, "narrowed: shapes differ");
    nb::gil_scoped_release unlocked;
    return (active->*KERNEL)(x.data(), rows, n, out.data(), squares.data());
}

template <class T, auto KERNEL>
void squared_norms(Array<const T, 2> x, Array<double, 1> squares) {
    require(squares.shape(0) == x.shape(0), "products: shapes differ");
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)(x.data(), x.shape(0), x.shape(1), squares.data());
}

void summed_energies(Array<const uint8_t, 2> index, Array<const int64_t, 1> energies, Array<double, 1> sums) {
    const size_t rows = index.shape(0), blocks = index.shape(1);
    require(sums.shape(0) == rows && energies.shape(0) == 256, "products: shapes differ");
    nb::gil_scoped_release unlocked;
    active->summed_energies(index.data(), rows, blocks, energies.data(), sums.data());
}

using Gains = Array<const double, 1>;

template <class T, class Out, auto KERNEL>
void products(Matrix<const T> a, Matrix<const T> b, Gains gains_a, Gains gains_b, Matrix<Out> out) {
    const size_t rows = a.shape(0), columns = b.shape(0), n = a.shape(1);
    require(b.shape(1) == n && n >= 1 && n <= (size_t)1 << 23, "products: the lengths of rows differ or are too large");
    require(out.shape(0) == rows && out.shape(1) == columns, "products: shapes differ");
    require(gains_a.shape(0) == rows && gains_b.shape(0) == columns, "products: one gain per row is needed");
    require(has_rows(a) && has_rows(b) && has_rows(out), "products: entries of a row are not neighbours");
    nb::gil_scoped_release unlocked;
    (active->products.*KERNEL)({a.data(), rows, (size_t)a.stride(0), gains_a.data()},
                               {b.data(), columns, (size_t)b.stride(0), gains_b.data()}, n,
                               {out.data(), (size_t)out.stride(0), 1}, scratch_of(products_size(n)).get());
}

template <class T, auto KERNEL>
void subtract_product(Matrix<T> c, Matrix<const T> a, Matrix<const T> b) {
    const size_t rows = c.shape(0), columns = c.shape(1), depth = b.shape(0);
    require(a.shape(0) == rows && a.shape(1) == depth && b.shape(1) == columns, "matrices: shapes differ");
    require(has_rows(a) && has_rows(b) && has_rows(c), "matrices: entries of a row are not neighbours");
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)(c.data(), c.stride(0), a.data(), a.stride(0), b.data(), b.stride(0), rows, columns, depth);
}

}  // namespace

void bind_rows(nb::module_& m) {
    add(m, "peak", &peak<float>);
    add(m, "peak", &peak<double>);
    add(m, "row_sums", &row_sums<float>);
    add(m, "row_sums", &row_sums<double>);
    add(m, "row_squares", &row_squares<float>);
    add(m, "row_squares", &row_squares<double>);
    add(m, "divided", &divided<float>);
    add(m, "divided", &divided<double>);
    add(m, "row_moments", &row_moments<float>);
    add(m, "row_moments", &row_moments<int32_t>);
    add(m, "restored", &restored<float, float, &Kernels::restored32>);
    add(m, "restored", &restored<double, double, &Kernels::restored64>);
    add(m, "restored_float16", &restored<Float16, uint16_t, &Kernels::restored_float16>);
    add(m, "restored_bfloat16", &restored<BFloat16, uint16_t, &Kernels::restored_bfloat16>);
    add(m, "widen_float16", &widen<Float16, &Kernels::widen_float16>);
    add(m, "widen_bfloat16", &widen<BFloat16, &Kernels::widen_bfloat16>);

    add(m, "narrowed", &narrowed<int8_t, &Kernels::narrowed8>);
    add(m, "narrowed", &narrowed<int16_t, &Kernels::narrowed16>);
    add(m, "squared_norms", &squared_norms<int8_t, &Kernels::squared_norms8>);
    add(m, "squared_norms", &squared_norms<int16_t, &Kernels::squared_norms16>);
    add(m, "summed_energies", &summed_energies);
    add(m, "add_products", &products<int8_t, double, &Products::add8>);
    add(m, "add_products", &products<int16_t, double, &Products::add16>);
    add(m, "put_products", &products<int8_t, float, &Products::put8>);
    add(m, "put_products", &products<int16_t, float, &Products::put16>);

    add(m, "subtract_product", &subtract_product<float, &Kernels::subtract_product32>);
    add(m, "subtract_product", &subtract_product<double, &Kernels::subtract_product64>);

    add(m, "transpose", &transpose<uint8_t, &Kernels::transpose8>);
    add(m, "transpose", &transpose<uint16_t, &Kernels::transpose16>);
    add(m, "transpose", &transpose<uint32_t, &Kernels::transpose32>);
    add(m, "transpose", &transpose<uint64_t, &Kernels::transpose64>);
}

}  // namespace latq
