// expect: heed: a source's open page must be `Index open_page_index() const noexcept`
#include "heed/attention/attend.hpp"
#include "heed/attention/matrix_source.hpp"

struct Opened : heed::MatrixSource<float> {
  using MatrixSource::MatrixSource;
  heed::PageView<float> open_page(heed::Index head) const noexcept {
    return page(head, 0, nullptr);
  }
};
void call(heed::RowsView<float> rows, const Opened& source) {
  heed::attend(rows, source, heed::CausalMask{}, 1.0, rows);
}
