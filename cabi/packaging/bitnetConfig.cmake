# find_package(bitnet) gives the target bitnet::bitnet, and bitnet_MODEL, the bundled model.

get_filename_component(_bitnet_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." REALPATH)

set(bitnet_MODEL "${_bitnet_prefix}/lib/bitnet/python/bitnet/data/stories.gguf")

if(NOT TARGET bitnet::bitnet)
  add_library(bitnet::bitnet SHARED IMPORTED)
  set_target_properties(bitnet::bitnet PROPERTIES
    IMPORTED_LOCATION "${_bitnet_prefix}/lib/@LINK@"
    IMPORTED_SONAME "@SONAME@"
    INTERFACE_INCLUDE_DIRECTORIES "${_bitnet_prefix}/include")
endif()

unset(_bitnet_prefix)
