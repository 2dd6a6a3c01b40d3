// SPDX-License-Identifier: MIT
/// \file
/// Writes GGUF files.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

#include "blocks.hpp"
#include "metadata.hpp"
#include "named_list.hpp"

namespace smollm2 {

/// Collects metadata and tensors, then writes them as a GGUF file of version 3, in the order in
/// which they were added. GgufFile reads back what was given, each value in its type.
class GgufWriter {
 public:
  /// Adds a value. The tensors are laid out by `general.alignment`, if that is given.
  /// \throws FormatError if the key is empty or there already
  void add(std::string key, MetadataValue value);

  /// Adds a tensor, [rows, cols]. One row is written as a tensor of one axis.
  /// \param data  the rows, stored as `type` has them
  /// \throws FormatError if the name is empty or there already, a size is not positive, the columns
  ///         do not make whole blocks, or the data have not as many bytes
  void add_tensor(std::string name, TensorType type, Index rows, Index cols,
                  std::vector<std::byte> data);
  /// The same with data that must stay until they are written.
  void add_tensor(std::string name, TensorType type, Index rows, Index cols,
                  std::span<const std::byte> data);

  /// Writes to a file beside the one named, which then replaces it: there is never half a file.
  /// \throws FormatError if `general.alignment` is not one, or with the system's message
  void write(const std::string& path) const;
  /// \throws FormatError if `general.alignment` is not one. Errors of the stream are the stream's.
  void write(std::ostream& stream) const;

 private:
  struct Tensor {
    StoredMatrix matrix;
    std::vector<std::byte> owned;  // what matrix.data points into, or empty
  };

  StoredMatrix checked(const std::string& name, TensorType type, Index rows, Index cols,
                       std::span<const std::byte> data) const;

  Metadata metadata_;
  NamedList<Tensor> tensors_;
};

}  // namespace smollm2
