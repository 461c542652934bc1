install(TARGETS collectives EXPORT collectives-targets FILE_SET HEADERS)
install(EXPORT collectives-targets NAMESPACE collectives:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/collectives)
configure_package_config_file(cmake/collectives-config.cmake.in ${PROJECT_BINARY_DIR}/collectives-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/collectives)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/collectives-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/collectives-config.cmake ${PROJECT_BINARY_DIR}/collectives-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/collectives)
