// expect: heed: attend_backward needs a score with a `slope`
#include "heed/attention/backward.hpp"

void call(heed::RowsView<float> rows) {
  const heed::CustomScore halved(
      [](float score, heed::Index, heed::Index, heed::Index) { return score / 2; });
  heed::attend_backward(rows, rows, rows, heed::NoMask{}, heed::chain(0.5, halved),
                        {.out = rows, .lse = rows}, rows,
                        {.query = rows, .key = rows, .value = rows});
}
