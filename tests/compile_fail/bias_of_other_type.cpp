// expect: heed: the Bias must have the compute type
#include "heed/attention/attend.hpp"

void call(heed::RowsView<float> rows, heed::HeadsView<const double> bias) {
  heed::attend(rows, rows, rows, heed::NoMask{}, heed::Bias<double>{bias}, rows);
}
