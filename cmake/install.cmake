install(TARGETS collectives EXPORT collectives-targets FILE_SET HEADERS)
if(COLLECTIVES_NCCL)
  install(TARGETS collectives_nccl LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/collectives/nccl NAMELINK_SKIP)
endif()
if(COLLECTIVES_CLI)
  # Finds the library beside it wherever the two are carried.
  file(RELATIVE_PATH from_bin_to_lib ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
  set_target_properties(collectives_cli PROPERTIES INSTALL_RPATH "$ORIGIN/${from_bin_to_lib}")
  install(TARGETS collectives_cli)
endif()
install(EXPORT collectives-targets NAMESPACE collectives:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/collectives)
configure_package_config_file(cmake/collectives-config.cmake.in ${PROJECT_BINARY_DIR}/collectives-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/collectives)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/collectives-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/collectives-config.cmake ${PROJECT_BINARY_DIR}/collectives-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/collectives)
