// SPDX-License-Identifier: MIT
#include "kv_memory/element_types.hpp"

#include "kv_memory/filled_cache.hpp"

namespace heed::bench {
namespace {

template <class Element>
constexpr ElementType named(std::string_view name) {
  return {name, kv_element<Element>, make_decode_case<Element>,
          CanStore<LatentKv<>, Element> ? StoredShapes::all : StoredShapes::grouped};
}

}  // namespace
}  // namespace heed::bench

std::span<const heed::bench::ElementType> heed::bench::element_types() {
  static constexpr ElementType types[] = {
      named<float>("f32"),
      named<double>("f64"),
      named<f16>("f16"),
      named<bf16>("bf16"),
      named<Native<bf16>>("bf16n"),
      named<int8>("int8"),
      named<Native<int8>>("int8n"),
      named<Native<Rotated<int8>>>("int8rn"),
      named<PerChannel<int8>>("int8c"),
      named<Native<PerChannel<int8>>>("int8cn"),
      named<Rotated<int8>>("int8r"),
      named<Rotated<PerChannel<int8>>>("int8cr"),
      named<int4>("int4"),
      named<Native<int4>>("int4n"),
      named<Rotated<int4>>("int4r"),
      named<Native<Rotated<int4>>>("int4rn"),
  };
  return types;
}
