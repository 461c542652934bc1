// Stands in for libcuda.so.1 of an old driver: just enough for the runtime to ask its version and refuse it.
extern "C" {
int cuInit(unsigned) { return 0; }

int cuDriverGetVersion(int* version) {
  *version = 11040;
  return 0;
}
}
