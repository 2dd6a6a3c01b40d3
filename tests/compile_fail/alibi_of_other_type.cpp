// expect: heed: the Alibi slopes must have the compute type
#include "heed/attention/attend.hpp"

void call(heed::RowsView<float> rows, std::span<const double> slopes) {
  heed::attend(rows, rows, rows, heed::NoMask{}, heed::Alibi<double>{slopes}, rows);
}
