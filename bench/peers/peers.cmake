# Libraries that `speed` is measured beside. Each is optional: README.md says how to get it.
target_sources(speed PRIVATE ${CMAKE_CURRENT_LIST_DIR}/peers.cpp)

# Compiles bench/peers/NAME.cpp into speed if `found`, and says which it is.
function(heed_bench_peer name found)
  if(NOT found)  # "", or a find_library's NOTFOUND
    message(STATUS "bench/speed without ${name}: bench/peers/README.md says how to get it")
    return()
  endif()
  message(STATUS "bench/speed with ${name}")
  string(TOUPPER ${name} upper)
  target_sources(speed PRIVATE ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${name}.cpp)
  set_property(SOURCE ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/peers.cpp
    APPEND PROPERTY COMPILE_DEFINITIONS HEED_BENCH_${upper})
endfunction()

find_package(ggml CONFIG QUIET)
heed_bench_peer(ggml "${ggml_FOUND}")
if(ggml_FOUND)
  target_link_libraries(speed PRIVATE ggml::ggml)
endif()

set(HEED_IK_LLAMA_DIR "" CACHE PATH "The repository of ik_llama.cpp, built in its folder `build`")
set(ik_llama_found FALSE)
if(HEED_IK_LLAMA_DIR)
  find_library(ik_llama_library ggml
    PATHS ${HEED_IK_LLAMA_DIR}/build/ggml/src NO_DEFAULT_PATH NO_CACHE)
  if(ik_llama_library)
    set(ik_llama_found TRUE)
    execute_process(COMMAND git -C ${HEED_IK_LLAMA_DIR} log -1 --format=%h
      OUTPUT_VARIABLE ik_llama_version OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    set_property(SOURCE ${CMAKE_CURRENT_LIST_DIR}/ik_llama.cpp
      APPEND PROPERTY COMPILE_DEFINITIONS
        HEED_IK_LLAMA_LIBRARY="${ik_llama_library}" HEED_IK_LLAMA_VERSION="${ik_llama_version}")
    set_property(SOURCE ${CMAKE_CURRENT_LIST_DIR}/ik_llama.cpp
      APPEND PROPERTY INCLUDE_DIRECTORIES ${HEED_IK_LLAMA_DIR}/ggml/include)
    target_link_libraries(speed PRIVATE ${CMAKE_DL_LIBS})
  endif()
endif()
heed_bench_peer(ik_llama ${ik_llama_found})

find_library(HEED_OPENBLAS_LIBRARY openblas DOC "OpenBLAS, for bench/speed's limits")
mark_as_advanced(HEED_OPENBLAS_LIBRARY)
heed_bench_peer(openblas "${HEED_OPENBLAS_LIBRARY}")
if(HEED_OPENBLAS_LIBRARY)
  set_property(SOURCE ${CMAKE_CURRENT_LIST_DIR}/openblas.cpp
    APPEND PROPERTY COMPILE_DEFINITIONS HEED_OPENBLAS_LIBRARY="${HEED_OPENBLAS_LIBRARY}")
  target_link_libraries(speed PRIVATE ${CMAKE_DL_LIBS})
endif()

set(HEED_ONNXRUNTIME_DIR "" CACHE PATH
  "A release archive of ONNX Runtime, or a folder with its headers and PyPI's wheel unpacked")
set(onnxruntime_found FALSE)
if(HEED_ONNXRUNTIME_DIR)
  find_path(onnxruntime_include onnxruntime_c_api.h
    PATHS ${HEED_ONNXRUNTIME_DIR} PATH_SUFFIXES include NO_DEFAULT_PATH NO_CACHE)
  # A wheel has no libonnxruntime.so, only the name with the version.
  file(GLOB libraries ${HEED_ONNXRUNTIME_DIR}/lib/libonnxruntime.so*
                      ${HEED_ONNXRUNTIME_DIR}/onnxruntime/capi/libonnxruntime.so*)
  if(onnxruntime_include AND libraries)
    set(onnxruntime_found TRUE)
    list(GET libraries 0 library)
    set_property(SOURCE ${CMAKE_CURRENT_LIST_DIR}/onnxruntime.cpp
      APPEND PROPERTY COMPILE_DEFINITIONS HEED_ONNXRUNTIME_LIBRARY="${library}")
    set_property(SOURCE ${CMAKE_CURRENT_LIST_DIR}/onnxruntime.cpp
      APPEND PROPERTY INCLUDE_DIRECTORIES ${onnxruntime_include})
    target_link_libraries(speed PRIVATE ${CMAKE_DL_LIBS})
  endif()
endif()
heed_bench_peer(onnxruntime ${onnxruntime_found})

# Not find_package(Torch), which asks for CUDA's compiler where the wheel is made for CUDA.
set(HEED_TORCH_DIR "" CACHE PATH "The folder `torch` of PyPI's wheel, or LibTorch unpacked")
set(torch_found FALSE)
if(HEED_TORCH_DIR)
  find_path(torch_include ATen/core/Tensor.h
    PATHS ${HEED_TORCH_DIR} PATH_SUFFIXES include NO_DEFAULT_PATH NO_CACHE)
  find_library(torch_library torch_cpu PATHS ${HEED_TORCH_DIR}/lib NO_DEFAULT_PATH NO_CACHE)
  if(torch_include AND torch_library)
    set(torch_found TRUE)
    # As a system's, so that its warnings are not ours.
    target_include_directories(speed SYSTEM PRIVATE ${torch_include})
    # PyTorch brings an OpenMP of its own, of the same name as the compiler's. The compiler's is for
    # all, as in any other program: its folder comes first. CMake would order them its own way.
    execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libgomp.so.1
      OUTPUT_VARIABLE openmp OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(IS_ABSOLUTE "${openmp}")  # else it is printed as it was asked for: there is none
      get_filename_component(openmp_folder "${openmp}" DIRECTORY)
      get_filename_component(openmp_folder "${openmp_folder}" REALPATH)
      target_link_options(speed PRIVATE LINKER:-rpath,${openmp_folder})
    endif()
    target_link_options(speed PRIVATE
      -L${HEED_TORCH_DIR}/lib LINKER:-rpath,${HEED_TORCH_DIR}/lib)
    target_link_libraries(speed PRIVATE -ltorch_cpu -lc10)
  endif()
endif()
heed_bench_peer(torch ${torch_found})
if(torch_found)
  target_sources(speed PRIVATE ${CMAKE_CURRENT_LIST_DIR}/torch_backward.cpp)
endif()
