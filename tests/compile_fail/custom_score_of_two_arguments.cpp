// expect: heed: a CustomScore's function must be callable as const, as
#include "heed/attention/attend.hpp"

void call(heed::RowsView<float> rows) {
  const heed::CustomScore halved{[](float score, heed::Index) { return score / 2; }};
  heed::attend(rows, rows, rows, heed::NoMask{}, halved, rows);
}
