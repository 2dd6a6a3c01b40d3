// expect: heed: a source's page_in_rows must be `PageView<Element> page_in_rows(
#include "heed/attention/attend.hpp"
#include "heed/attention/matrix_source.hpp"

struct InRows : heed::MatrixSource<float> {
  using MatrixSource::MatrixSource;
  heed::RowsView<const float> page_in_rows(heed::Index, heed::Index, float*) const;
};
void call(heed::RowsView<float> rows, const InRows& source) {
  heed::attend(rows, source, heed::CausalMask{}, 1.0, rows);
}
