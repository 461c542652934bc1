/* Stands in for libcuda.so.1 of an old driver: just enough for the runtime to ask its version and refuse it. */
int cuInit(unsigned flags) {
  (void)flags;
  return 0;
}

int cuDriverGetVersion(int* version) {
  *version = 11040;
  return 0;
}
