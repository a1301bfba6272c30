// Lattice points and paths of a trellis, with the model that codes them.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "binding.hpp"

namespace latq {
namespace {

template <class T>
using Entries = nb::ndarray<const T, nb::shape<-1, 3, PLACES>, nb::c_contig, nb::device::cpu>;
using Ranges = nb::ndarray<const uint16_t, nb::shape<-1, 2, 3, PLACES>, nb::c_contig, nb::device::cpu>;

PointModel model_of(Octets slots, Array<const uint32_t, 2> of_values, Entries<uint32_t> infos, Entries<int32_t> costs,
                    Array<const int32_t, 1> first, Array<const int32_t, 1> shifts, Array<const int32_t, 1> origin,
                    Array<const int32_t, 1> windows, Ranges ranges) {
    const size_t tables = of_values.shape(0), classes = first.shape(0);
    // Three more bytes than there are slots: they are read four at a time.
    require(slots.shape(0) == (tables << 14) + 3 && of_values.shape(1) == 256, "model: wrong number of slots");
    for (const size_t given : {infos.shape(0), costs.shape(0), ranges.shape(0)})
        require(given == classes, "model: wrong tables");
    for (const size_t given : {shifts.shape(0), origin.shape(0), windows.shape(0)})
        require(given == classes, "model: wrong classes");
    for (size_t c = 0; c < classes; ++c) {
        const size_t last = (size_t)first(c) + (shifts(c) ? 0 : 6);
        require(shifts(c) >= 0 && shifts(c) <= 16 && first(c) >= 0 && last < tables, "model: a class has no tables");
        require(windows(c) == 32 || windows(c) == 64 || windows(c) == 128, "model: unknown window");
    }
    return {slots.data(),  of_values.data(), infos.data(),   costs.data(),  first.data(),
            shifts.data(), origin.data(),    windows.data(), ranges.data(), classes};
}

void check_classes(const Array<const int32_t, 1>& classes, size_t blocks, const PointModel& model) {
    require(classes.shape(0) == blocks, "points: one class per block is needed");
    uint32_t largest = 0;
    for (size_t b = 0; b < blocks; ++b) largest = std::max(largest, (uint32_t)classes.data()[b]);
    require(largest < model.classes, "points: a class is out of range");
}

void nearest_points(Array<const float, 2> x, Array<int32_t, 2> points, float inverse) {
    const size_t blocks = x.shape(0);
    require(x.shape(1) == 8 && points.shape(0) == blocks && points.shape(1) == 8, "points: shapes differ");
    nb::gil_scoped_release unlocked;
    active->nearest_points(x.data(), points.data(), blocks, inverse);
}

int64_t choose_points(Array<const float, 2> x, Array<const int32_t, 1> classes, float inverse, float worth,
                      float shrink, const PointModel& model, Array<int32_t, 2> points) {
    const size_t blocks = x.shape(0);
    require(x.shape(1) == 8 && points.shape(0) == blocks && points.shape(1) == 8, "points: shapes differ");
    nb::gil_scoped_release unlocked;
    check_classes(classes, blocks, model);
    std::vector<float> weights(3 * PLACES * model.classes);
    return active->choose_points(x.data(), classes.data(), blocks, inverse, worth, shrink, model, points.data(),
                                 weights.data());
}

template <auto KERNEL>
void costs(Array<const int32_t, 2> points, Array<const int32_t, 1> classes, const PointModel& model,
           Array<int64_t, 1> costs) {
    const size_t blocks = points.shape(0);
    require(points.shape(1) == 8 && costs.shape(0) == blocks, "points: shapes differ");
    nb::gil_scoped_release unlocked;
    check_classes(classes, blocks, model);
    (active->*KERNEL)(points.data(), classes.data(), blocks, model, costs.data());
}

// So many lanes that every one has blocks, however they are dealt out.
bool lanes_are_sound(size_t lanes, size_t blocks) {
    return is_power_of_two(lanes) && lanes <= MAX_LANES && (lanes == 1 || lanes <= blocks / lanes);
}

// Their parity checks.
std::vector<std::pair<uint32_t, uint32_t>> trellises() {
    std::vector<std::pair<uint32_t, uint32_t>> found;
    for (const Trellis& trellis : TRELLISES) found.emplace_back(trellis.h0, trellis.h1);
    return found;
}

int64_t choose_paths(Array<const float, 2> x, Array<const int32_t, 1> classes, size_t lanes, float inverse,
                     std::optional<Array<const int32_t, 2>> weights, const PointModel* model, size_t trellis,
                     Array<int32_t, 2> values) {
    const size_t blocks = x.shape(0);
    require(x.shape(1) == 8 && values.shape(0) == blocks && values.shape(1) == 8, "paths: shapes differ");
    require(blocks > 0 && lanes_are_sound(lanes, blocks) && trellis < TRELLIS_COUNT, "paths: no lanes or no trellis");
    require(!weights == !model, "paths: weights belong to a model");
    require(!weights || (weights->shape(0) == model->classes && weights->shape(1) == PLACES), "paths: wrong weights");
    nb::gil_scoped_release unlocked;
    if (model) check_classes(classes, blocks, *model);
    const size_t words = paths_size(8 * path_blocks(blocks, lanes), TRELLISES[trellis].h0);
    return active->choose_paths(x.data(), classes.data(), blocks, lanes, inverse, weights ? weights->data() : nullptr,
                                model, trellis, values.data(), (uint32_t*)scratch_of(4 * words).get());
}

size_t low_size_of(const Array<const int32_t, 1>& classes, const PointModel& model) {
    size_t size = 0;
    if (std::all_of(model.shifts, model.shifts + model.classes, [](int32_t shift) { return shift == 0; })) return 0;
    for (size_t b = 0; b < classes.shape(0); ++b) size += (size_t)model.shifts[classes.data()[b]];
    return size;
}

template <auto KERNEL>
std::pair<size_t, size_t> encode(Array<const int32_t, 2> points, Array<const int32_t, 1> classes, size_t lanes,
                                 const PointModel& model, Array<uint32_t, 1> states, Array<uint16_t, 1> words,
                                 Array<int32_t, 1> escapes, Array<uint8_t, 1> low) {
    const size_t blocks = points.shape(0);
    require(points.shape(1) == 8 && lanes_are_sound(lanes, blocks) && states.shape(0) == lanes, "points: shapes differ");
    require(words.shape(0) >= 8 * blocks + WORDS_SLACK && escapes.shape(0) == 8 * blocks, "points: too little room");
    nb::gil_scoped_release unlocked;
    check_classes(classes, blocks, model);
    require(low.shape(0) == low_size_of(classes, model), "points: too little room for low bits");
    size_t found[2];
    (active->*KERNEL)(points.data(), classes.data(), blocks, lanes, model, states.data(), words.data(), escapes.data(),
                      low.data(), low.shape(0), found);
    return {found[0], found[1]};
}

// What decoders are given of a stream; nothing if the states are not there.
std::optional<PointStream> stream_of(const Octets& stream, const Octets& rest, const Array<const int32_t, 1>& classes,
                                     size_t lanes, const PointModel& model, void* points) {
    const size_t blocks = classes.shape(0), size = stream.shape(0);
    require(lanes_are_sound(lanes, blocks), "points: shapes differ");
    check_classes(classes, blocks, model);
    const size_t low_size = low_size_of(classes, model);
    require(rest.shape(0) >= low_size && (rest.shape(0) - low_size) % 4 == 0, "points: wrong number of low bits");
    if (size < 4 * lanes || (size - 4 * lanes) % 2) return {};
    const size_t escapes = (rest.shape(0) - low_size) / 4;
    return PointStream{stream.data(),  (size - 4 * lanes) / 2, rest.data(), escapes, rest.data() + 4 * escapes, low_size,
                       classes.data(), blocks,                 lanes,       points,  Found::DAMAGED};
}

// Arrays are taken as they are. Of every stream what became of it.
template <class Out, auto KERNEL>
std::vector<Found> decode_points(const std::vector<nb::tuple>& given, const PointModel& model) {
    std::vector<PointStream> streams;
    std::vector<size_t> places;
    for (size_t i = 0; i < given.size(); ++i) {
        require(given[i].size() == 5, "points: a stream has five parts");
        const auto stream = nb::cast<Octets>(given[i][0], false), rest = nb::cast<Octets>(given[i][1], false);
        const auto classes = nb::cast<Array<const int32_t, 1>>(given[i][2], false);
        const auto points = nb::cast<Array<Out, 2>>(given[i][4], false);
        require(points.shape(0) == classes.shape(0) && points.shape(1) == 8, "points: shapes differ");
        const size_t lanes = nb::cast<size_t>(given[i][3]);
        if (const auto found = stream_of(stream, rest, classes, lanes, model, points.data())) {
            streams.push_back(*found);
            places.push_back(i);
        }
    }
    {
        nb::gil_scoped_release unlocked;
        (active->*KERNEL)(streams.data(), streams.size(), model);
    }
    std::vector<Found> found(given.size(), Found::DAMAGED);
    for (size_t i = 0; i < places.size(); ++i) found[places[i]] = streams[i].found;
    return found;
}

bool decode_paths(Octets stream, Octets rest, Array<const int32_t, 1> classes, size_t lanes, const PointModel& model,
                  uint32_t h0, uint32_t h1, Array<float, 2> points) {
    require(points.shape(0) == classes.shape(0) && points.shape(1) == 8, "points: shapes differ");
    nb::gil_scoped_release unlocked;
    const auto of = stream_of(stream, rest, classes, lanes, model, points.data());
    return of && active->decode_paths(of->stream, of->words, of->escapes, of->escape_count, of->low, of->low_size,
                                      of->classes, of->blocks, lanes, model, h0, h1, points.data());
}

}  // namespace

void bind_points(nb::module_& m) {
    // Keeps the arrays that it points into alive.
    nb::class_<PointModel>(m, "PointModel");
    m.def("point_model", &model_of, nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(),
          nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(),
          nb::arg().noconvert(), nb::arg().noconvert(), nb::keep_alive<0, 1>(), nb::keep_alive<0, 2>(),
          nb::keep_alive<0, 3>(), nb::keep_alive<0, 4>(), nb::keep_alive<0, 5>(), nb::keep_alive<0, 6>(),
          nb::keep_alive<0, 7>(), nb::keep_alive<0, 8>(), nb::keep_alive<0, 9>());
    add(m, "nearest_points", &nearest_points);
    add(m, "choose_points", &choose_points);
    add(m, "point_costs", &costs<&Kernels::point_costs>);
    m.def("choose_paths", &choose_paths, nb::arg().noconvert(), nb::arg().noconvert(), nb::arg(), nb::arg(),
          nb::arg().none(), nb::arg().none(), nb::arg(), nb::arg().noconvert());
    m.attr("TRELLISES") = trellises();
    add(m, "encode_points", &encode<&Kernels::encode_points>);
    nb::enum_<Found>(m, "Found")
        .value("SOUND", Found::SOUND)
        .value("BEYOND", Found::BEYOND)
        .value("DAMAGED", Found::DAMAGED);
    m.def("decode_points", &decode_points<float, &Kernels::decode_points_float>);
    m.def("decode_points8", &decode_points<int8_t, &Kernels::decode_points8>);
    m.def("decode_points16", &decode_points<int16_t, &Kernels::decode_points16>);
    add(m, "path_costs", &costs<&Kernels::path_costs>);
    add(m, "encode_paths", &encode<&Kernels::encode_paths>);
    add(m, "decode_paths", &decode_paths);
}

}  // namespace latq
