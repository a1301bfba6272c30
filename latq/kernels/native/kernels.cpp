// Compiled once per instruction set, into the namespace LATQ_TARGET.
#include "kernels.hpp"
#include "points.hpp"
#include "rans.hpp"
#include "rotation.hpp"
#include "vectors.hpp"

#define LATQ_NAME_OF(target) #target
#define LATQ_NAME(target) LATQ_NAME_OF(target)

namespace latq::LATQ_TARGET {

extern const Kernels kernels;
const Kernels kernels = {
    .name = LATQ_NAME(LATQ_TARGET),
    .fwht = fwht,
    .rotate = rotate,
    .unrotate = unrotate,
    .nearest_points = nearest_points,
    .choose_points = choose_points,
    .point_costs = point_costs,
    .encode_points = encode_points,
    .decode_points = decode_points,
    .rows32 = {peak<float>, row_sums<float>, row_squares<float>, divided<float>},
    .rows64 = {peak<double>, row_sums<double>, row_squares<double>, divided<double>},
    .row_dots = row_dots,
    .restored = restored,
};

}  // namespace latq::LATQ_TARGET
