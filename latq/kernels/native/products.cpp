// For an instruction set that only products gain by, compiled into the namespace LATQ_TARGET.
#include "products.hpp"

namespace latq::LATQ_TARGET {

extern const Products product_kernels;
const Products product_kernels = PRODUCTS;

}  // namespace latq::LATQ_TARGET
