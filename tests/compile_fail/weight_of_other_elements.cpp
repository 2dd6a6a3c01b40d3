// expect: heed: a weight has other elements than the layer
#include "heed/layers/linear.hpp"

heed::Linear<float> linear(heed::RowsView<const double> weight) { return {weight}; }
