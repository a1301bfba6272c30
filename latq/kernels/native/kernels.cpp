// Compiled once per instruction set, into the namespace LATQ_TARGET.
#include "kernels.hpp"
#include "choice.hpp"
#include "codewords.hpp"
#include "coding.hpp"
#include "layout.hpp"
#include "matrices.hpp"
#include "packing.hpp"
#include "path_coding.hpp"
#include "paths.hpp"
#include "points.hpp"
#include "products.hpp"
#include "rans.hpp"
#include "rotation.hpp"
#include "search.hpp"
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
    .decode_points_float = decode_points<float>,
    .decode_points8 = decode_points<int8_t>,
    .decode_points16 = decode_points<int16_t>,
    .choose_paths = choose_paths,
    .path_costs = path_costs,
    .encode_paths = encode_paths,
    .decode_paths = decode_paths,
    .decode_symbols = {decode_symbols<12>, decode_symbols<14>},
    .encode_symbols = {encode_symbols<12>, encode_symbols<14>},
    .unpack8 = unpack_bits<uint8_t>,
    .unpack16 = unpack_bits<uint16_t>,
    .unpack32 = unpack_bits<uint32_t>,
    .pack8 = pack_bits<uint8_t>,
    .pack16 = pack_bits<uint16_t>,
    .pack32 = pack_bits<uint32_t>,
    .split_digits = {split_digits<3, 5>, split_digits<5, 3>, split_digits<7, 11>},
    .join_digits = {join_digits<3, 5>, join_digits<5, 3>, join_digits<7, 11>},
    .unpack_digits8 = unpack_digits<uint8_t>,
    .unpack_digits16 = unpack_digits<uint16_t>,
    .codewords8 = codewords<uint8_t, float>,
    .codewords16 = codewords<uint16_t, float>,
    .short_codewords8 = codewords<uint8_t, int16_t>,
    .short_codewords16 = codewords<uint16_t, int16_t>,
    .estimated_errors = estimated_errors,
    .cheapest_scales = cheapest_scales,
    .guess_scales = guess_scales,
    .choose_scales = choose_scales,
    .quantize8 = quantize<uint8_t>,
    .quantize16 = quantize<uint16_t>,
    .count_symbols = count_symbols,
    .rows32 = {peak<float>, row_sums<float>, row_squares<float>, divided<float>},
    .rows64 = {peak<double>, row_sums<double>, row_squares<double>, divided<double>},
    .moments_float = row_moments<float>,
    .moments_int = row_moments<int32_t>,
    .restored32 = restored<float>,
    .restored64 = restored<double>,
    .restored_float16 = restored<Float16>,
    .restored_bfloat16 = restored<BFloat16>,
    .widen_float16 = widen<Float16>,
    .widen_bfloat16 = widen<BFloat16>,
    .narrowed8 = narrowed<int8_t>,
    .narrowed16 = narrowed<int16_t>,
    .squared_norms8 = squared_norms<int8_t>,
    .squared_norms16 = squared_norms<int16_t>,
    .summed_energies = summed_energies,
    .products = PRODUCTS,
    .subtract_product32 = subtract_product<float>,
    .subtract_product64 = subtract_product<double>,
    .transpose8 = transpose<uint8_t>,
    .transpose16 = transpose<uint16_t>,
    .transpose32 = transpose<uint32_t>,
    .transpose64 = transpose<uint64_t>,
};

}  // namespace latq::LATQ_TARGET
