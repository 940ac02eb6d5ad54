// Between compressed rows and a dense matrix of k columns, where nothing but the stored positions is touched.

#include <cstdint>

extern "C" void scatter(const std::int32_t* starts, const std::int32_t* columns, const float* values,
                        float* dense, std::int64_t m, std::int64_t k, int threads) {
#pragma omp parallel for num_threads(threads)
  for (std::int64_t row = 0; row < m; ++row)
    for (std::int64_t at = starts[row]; at < starts[row + 1]; ++at) dense[row * k + columns[at]] = values[at];
}

extern "C" void gather(const std::int32_t* starts, const std::int32_t* columns, const float* dense,
                       float* values, std::int64_t m, std::int64_t k, int threads) {
#pragma omp parallel for num_threads(threads)
  for (std::int64_t row = 0; row < m; ++row)
    for (std::int64_t at = starts[row]; at < starts[row + 1]; ++at) values[at] = dense[row * k + columns[at]];
}
