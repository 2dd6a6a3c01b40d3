// expect: heed: attention computes in float or double.
#include "heed/attention/attend.hpp"

void call(heed::RowsView<int> rows) { heed::attend(rows, rows, rows, heed::NoMask{}, 1.0, rows); }
