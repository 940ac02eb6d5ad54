// Threads: OpenMP's, or one where there is no OpenMP.

#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

inline int thread_number() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

}  // namespace
