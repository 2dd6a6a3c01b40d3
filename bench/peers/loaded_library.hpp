// SPDX-License-Identifier: MIT
/// \file
/// A shared library that is loaded by its path, and whose symbols nobody else sees: a BLAS that is
/// linked in would replace those inside other peers.
#pragma once

#include <stdexcept>
#include <string>

#include <dlfcn.h>

namespace heed::bench {

/// Whose symbols a library takes where it and the program have the same.
enum class SymbolsOf {
  program_first,  ///< as with any other library
  itself_first,
};

/// Stays loaded until the program ends.
class LoadedLibrary {
 public:
  /// \throws std::runtime_error with the loader's reason
  explicit LoadedLibrary(const char* path, SymbolsOf symbols = SymbolsOf::program_first)
      : handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL |
                                 (symbols == SymbolsOf::itself_first ? RTLD_DEEPBIND : 0))) {
    if (handle_ == nullptr) throw std::runtime_error(dlerror());
  }

  /// \tparam Function  a pointer to a function, of the type that the library's header gives
  template <class Function>
  Function find(const char* name) const {
    void* const symbol = dlsym(handle_, name);
    if (symbol == nullptr) throw std::runtime_error(std::string(name) + " is not in the library");
    return reinterpret_cast<Function>(symbol);
  }

 private:
  void* handle_;
};

}  // namespace heed::bench
