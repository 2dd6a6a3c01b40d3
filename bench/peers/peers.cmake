# Libraries that `speed` is measured beside. Each is optional: README.md says how to get it.
target_sources(speed PRIVATE ${CMAKE_CURRENT_LIST_DIR}/peers.cpp)
