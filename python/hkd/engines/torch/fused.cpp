// BatchNorm, Scale, the sum of two maps and ReLU in as few passes over a map as their definition allows: two forward, two
// backward. And the few other passes of a residual network that are no convolution. Compiled once for maps of bfloat16 and once,
// with -DFLOAT32, for maps of float32.
//
// A map is N x H x W x C in memory (channels last): `rows` = N H W rows of C values. Statistics, factors and sums are
// float32, sums of chunks are added in float64 in a fixed order: the same bits with any number of threads.
//
// What a pass costs is the way of its maps from memory, not what is computed: they are asked for some lines ahead.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef __AVX512BW__
#include <immintrin.h>
#endif

constexpr int LANES = 16, CHUNK = 256;  // CHUNK rows of 64 channels: 32 KB, what a first-level cache holds
constexpr int AHEAD = 4096;             // bytes: what is asked for now is there when its turn comes; measured

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
#ifdef FLOAT32
using Value = float;
#else
using Value = uint16_t;  // a bfloat16

typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

// bfloat16 is the upper half of a float32. Each way is one instruction where the processor has it, with the same bits.
static inline Floats widened(Halves h) {
#ifdef __AVX512BW__
  const __m512i to_upper = _mm512_set_epi32(0x0f0000, 0x0e0000, 0x0d0000, 0x0c0000, 0x0b0000, 0x0a0000, 0x090000, 0x080000,
                                            0x070000, 0x060000, 0x050000, 0x040000, 0x030000, 0x020000, 0x010000, 0);
  return (Floats)_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, to_upper, _mm512_castsi256_si512((__m256i)h));
#else
  return (Floats)(__builtin_convertvector(h, Bits) << 16);
#endif
}

static inline Halves rounded(Floats v) {  // to the nearest, ties to even
#ifdef __AVX512BF16__
  return (Halves)_mm512_cvtneps_pbh((__m512)v);
#else
  Bits b = (Bits)v;
  b += 0x7fff + ((b >> 16) & 1);
  return __builtin_convertvector(b >> 16, Halves);
#endif
}
#endif

// LANES channels of a row from channel `at`; the lanes beyond the last channel are zero and are not written back. `full`: there are
// none beyond, which the compiler has to know.
template <bool full>
struct Lanes {
  int count;
  Floats floats(const float* p) const {
    Floats v = {};
    std::memcpy(&v, p, full ? sizeof v : 4 * count);
    return v;
  }
#ifdef FLOAT32
  Floats load(const Value* p) const {
    __builtin_prefetch(reinterpret_cast<const char*>(p) + AHEAD);
    return floats(p);
  }
  void store(Value* p, Floats v) const {
    __builtin_prefetch(reinterpret_cast<char*>(p) + AHEAD, 1);
    std::memcpy(p, &v, full ? sizeof v : 4 * count);
  }
  Floats sum(const Value* p, const Value* q) const { return load(p) + load(q); }
#else
  Floats load(const Value* p) const {
    __builtin_prefetch(reinterpret_cast<const char*>(p) + AHEAD);
    Halves h = {};
    std::memcpy(&h, p, full ? sizeof h : 2 * count);
    return widened(h);
  }
  void store(Value* p, Floats v) const {
    __builtin_prefetch(reinterpret_cast<char*>(p) + AHEAD, 1);
    const Halves h = rounded(v);
    std::memcpy(p, &h, full ? sizeof h : 2 * count);
  }
  // As a map of the sum would have it.
  Floats sum(const Value* p, const Value* q) const { return widened(rounded(load(p) + load(q))); }
#endif
};

static inline Floats positive(Floats v, Ints mask) { return mask ? v : Floats{}; }
static inline Floats zero() { return Floats{}; }
static inline Floats all(float v) { return zero() + v; }

// Calls work(lanes, first channel) for every block of LANES channels.
template <class Work>
static void each_block(int channels, Work work) {
  for (int at = 0; at < channels; at += LANES) {
    if (channels - at >= LANES) work(Lanes<true>{LANES}, at);
    else work(Lanes<false>{channels - at}, at);
  }
}

// Calls work(lanes, first channel, chunk, first row, rows) for every block of LANES channels of every chunk, chunks in parallel.
template <class Work>
static void over(int64_t rows, int channels, Work work) {
  const int64_t chunks = (rows + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = chunk * CHUNK, count = std::min<int64_t>(CHUNK, rows - first);
    each_block(channels, [&](auto lanes, int at) { work(lanes, at, chunk, first, count); });
  }
}

// Sums over all rows of the two values that each row gives: out[2][channels] in float64.
template <class Values>
static std::vector<double> sums(int64_t rows, int channels, Values values) {
  const int64_t chunks = (rows + CHUNK - 1) / CHUNK;
  std::vector<float> parts(chunks * 2 * channels);
  over(rows, channels, [&](auto lanes, int at, int64_t chunk, int64_t first, int64_t count) {
    Floats one[4] = {}, two[4] = {};
    const auto row = values(lanes, at);
    int64_t r = 0;
    for (; r + 4 <= count; r += 4)
      for (int k = 0; k < 4; ++k) row(first + r + k, one[k], two[k]);
    for (; r < count; ++r) row(first + r, one[0], two[0]);
    const Floats a = (one[0] + one[1]) + (one[2] + one[3]), b = (two[0] + two[1]) + (two[2] + two[3]);
    std::memcpy(&parts[chunk * 2 * channels + at], &a, 4 * lanes.count);
    std::memcpy(&parts[(chunk * 2 + 1) * channels + at], &b, 4 * lanes.count);
  });
  std::vector<double> whole(2 * channels);
  for (int64_t chunk = 0; chunk < chunks; ++chunk)
    for (int i = 0; i < 2 * channels; ++i) whole[i] += parts[chunk * 2 * channels + i];
  return whole;
}

extern "C" {

// y = relu(BatchNorm(x) weight + bias + other), with the statistics of the batch; `other` may be null.
// saved: 4 x channels: the batch's mean, its biased variance, and the factor and the shift that y is made with.
void norm_forward(const Value* x, const Value* other, Value* y, int64_t rows, int channels, const float* weight,
                  const float* bias, float eps, int relu, float* saved) {
  float *mean = saved, *variance = saved + channels, *factor = saved + 2 * channels, *shift = saved + 3 * channels;
  // Around the first row, so that a mean far from zero does not eat the digits of the variance.
  std::vector<float> origin(channels);
  for (int c = 0; c < channels; ++c) origin[c] = Lanes<false>{1}.load(x + c)[0];
  const auto found = sums(rows, channels, [&](auto lanes, int at) {
    const Floats from = lanes.floats(&origin[at]);
    return [=](int64_t r, Floats& one, Floats& two) {
      const Floats v = lanes.load(x + r * channels + at) - from;
      one += v;
      two += v * v;
    };
  });
  for (int c = 0; c < channels; ++c) {
    const double m = found[c] / rows, v = std::max(0.0, found[channels + c] / rows - m * m);
    mean[c] = float(origin[c] + m);
    variance[c] = float(v);
    factor[c] = float(weight[c] / std::sqrt(v + eps));
    shift[c] = bias[c] - mean[c] * factor[c];
  }
  over(rows, channels, [=](auto lanes, int at, int64_t, int64_t first, int64_t count) {
    const Floats a = lanes.floats(factor + at), b = lanes.floats(shift + at);
    for (int64_t i = first * channels + at, r = 0; r < count; ++r, i += channels) {
      Floats v = lanes.load(x + i) * a + b;
      if (other) v += lanes.load(other + i);
      if (relu) v = positive(v, v > zero());
      lanes.store(y + i, v);
    }
  });
}

// Adds the mean and the unbiased variance in `saved` to what Caffe's BatchNorm has stored (batch_norm_layer.cpp:125-147): sums, and
// the number that both are divided by.
void accumulate(const float* saved, int64_t rows, int channels, float fraction, float* mean, float* variance, float* divisor) {
  const double unbiased = double(rows) / (rows - 1);
  for (int c = 0; c < channels; ++c) {
    mean[c] = mean[c] * fraction + saved[c];
    variance[c] = variance[c] * fraction + float(saved[channels + c] * unbiased);
  }
  *divisor = *divisor * fraction + 1;
}

// The gradients of norm_forward for that of y, which is dy, or dy + dy2 where dy2 is not null: two layers read y. With `other`: y,
// and above, which gets the gradient of `other`.
void norm_backward(const Value* dy, const Value* dy2, const Value* x, const Value* y, Value* above, Value* dx, int64_t rows,
                   int channels, const float* weight, float eps, int relu, const float* saved, float* dweight,
                   float* dbias) {
  const float *mean = saved, *variance = saved + channels, *factor = saved + 2 * channels, *shift = saved + 3 * channels;
  const auto found = sums(rows, channels, [&](auto lanes, int at) {
    const Floats m = lanes.floats(mean + at), a = lanes.floats(factor + at), b = lanes.floats(shift + at);
    return [=](int64_t r, Floats& one, Floats& two) {
      const int64_t i = r * channels + at;
      const Floats v = lanes.load(x + i);
      Floats g = dy2 ? lanes.sum(dy + i, dy2 + i) : lanes.load(dy + i);
      if (relu) g = positive(g, above ? lanes.load(y + i) > zero() : v * a + b > zero());
      if (above) lanes.store(above + i, g);
      one += g;
      two += g * (v - m);
    };
  });
  // dx = factor (g - mean g - (x - mean) / variance mean(g (x - mean))), written as p g + q x + s.
  std::vector<float> q(channels), s(channels);
  for (int c = 0; c < channels; ++c) {
    const double whole = variance[c] + double(eps);
    dbias[c] = float(found[c]);
    dweight[c] = float(found[channels + c] / std::sqrt(whole));
    q[c] = float(-factor[c] * found[channels + c] / rows / whole);
    s[c] = float(-factor[c] * found[c] / rows - double(q[c]) * mean[c]);
  }
  const Value *from = above ? above : dy, *from2 = above ? nullptr : dy2;
  over(rows, channels, [&](auto lanes, int at, int64_t, int64_t first, int64_t count) {
    const Floats a = lanes.floats(factor + at), b = lanes.floats(shift + at);
    const Floats qs = lanes.floats(&q[at]), ss = lanes.floats(&s[at]);
    for (int64_t i = first * channels + at, r = 0; r < count; ++r, i += channels) {
      const Floats v = lanes.load(x + i);
      Floats g = from2 ? lanes.sum(from + i, from2 + i) : lanes.load(from + i);
      if (relu && !above) g = positive(g, v * a + b > zero());
      lanes.store(dx + i, g * a + v * qs + ss);
    }
  });
}

// Option A's shortcut: y (n x ceil(h / 2) x ceil(w / 2) x 2 channels) is every second pixel of x and as many zeros.
void halve(const Value* x, Value* y, int64_t n, int height, int width, int channels) {
  const int64_t rows = (height + 1) / 2, columns = (width + 1) / 2;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < n * rows; ++r) {
    const Value* from = x + (r / rows * height + 2 * (r % rows)) * width * channels;
    Value* to = y + r * columns * 2 * channels;
    for (int64_t c = 0; c < columns; ++c, from += 2 * channels, to += 2 * channels) {
      std::memcpy(to, from, channels * sizeof(Value));
      std::memset(to + channels, 0, channels * sizeof(Value));
    }
  }
}

// The gradient of halve for that of y.
void halve_backward(const Value* dy, Value* dx, int64_t n, int height, int width, int channels) {
  const int64_t rows = (height + 1) / 2, columns = (width + 1) / 2;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < n * height; ++r) {
    Value* to = dx + r * width * channels;
    std::memset(to, 0, int64_t(width) * channels * sizeof(Value));
    if (r % height % 2) continue;
    const Value* from = dy + (r / height * rows + r % height / 2) * columns * 2 * channels;
    for (int64_t c = 0; c < columns; ++c, from += 2 * channels, to += 2 * channels)
      std::memcpy(to, from, channels * sizeof(Value));
  }
}

// The mean of each of n maps of `pixels` rows: y is n x channels.
void averaged(const Value* x, float* y, int64_t n, int64_t pixels, int channels) {
#pragma omp parallel for schedule(static)
  for (int64_t image = 0; image < n; ++image) {
    each_block(channels, [=](auto lanes, int at) {
      const Value* from = x + image * pixels * channels + at;
      Floats sum = {};
      for (int64_t r = 0; r < pixels; ++r) sum += lanes.load(from + r * channels);
      sum /= float(pixels);
      std::memcpy(y + image * channels + at, &sum, 4 * lanes.count);
    });
  }
}

// The gradient of averaged for that of y.
void averaged_backward(const float* dy, Value* dx, int64_t n, int64_t pixels, int channels) {
#pragma omp parallel for schedule(static)
  for (int64_t image = 0; image < n; ++image) {
    each_block(channels, [=](auto lanes, int at) {
      const Floats g = lanes.floats(dy + image * channels + at) / float(pixels);
      Value* to = dx + image * pixels * channels + at;
      for (int64_t r = 0; r < pixels; ++r) lanes.store(to + r * channels, g);
    });
  }
}

// A batch of crops less the mean at their place, then mirrored: out is n x height x width x channels. Image `chosen` of images
// (channels x rows x columns each) is cropped from row `top` and column `left`; mean is such an image, or null.
void crops(const uint8_t* images, const int64_t* chosen, const int64_t* top, const int64_t* left, const bool* mirrored,
           const float* mean, float* out, int64_t n, int channels, int rows, int columns, int height, int width) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i)
    for (int c = 0; c < channels; ++c)
      for (int r = 0; r < height; ++r) {
        const int64_t at = (int64_t(c) * rows + top[i] + r) * columns + left[i];
        const uint8_t* from = images + chosen[i] * channels * rows * columns + at;
        float* to = out + ((i * height + r) * width + (mirrored[i] ? width - 1 : 0)) * channels + c;
        const int step = mirrored[i] ? -channels : channels;
        for (int k = 0; k < width; ++k, to += step) *to = mean ? float(from[k]) - mean[at + k] : float(from[k]);
      }
}

// The squared distance of two maps of `size` values.
double squared_distance(const Value* one, const Value* other, int64_t size) {
  // As rows of LANES channels; what is left over is added by itself.
  const int64_t rows = size / LANES;
  const auto found = sums(rows, LANES, [=](auto lanes, int) {
    return [=](int64_t r, Floats& sum, Floats&) {
      const Floats d = lanes.load(one + r * LANES) - lanes.load(other + r * LANES);
      sum += d * d;
    };
  });
  double whole = 0;
  for (int i = 0; i < LANES; ++i) whole += found[i];
  const Lanes<false> rest{int(size - rows * LANES)};
  const Floats d = rest.load(one + rows * LANES) - rest.load(other + rows * LANES);
  for (int i = 0; i < rest.count; ++i) whole += double(d[i]) * d[i];
  return whole;
}

// out = factor (one - other).
void scaled_difference(const Value* one, const Value* other, float factor, Value* out, int64_t size) {
  // As rows of LANES channels, and what is left over as one of fewer.
  const int64_t rows = size / LANES;
  const auto row = [=](auto lanes, int64_t i) {
    lanes.store(out + i, factor * (lanes.load(one + i) - lanes.load(other + i)));
  };
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; ++r) row(Lanes<true>{LANES}, r * LANES);
  row(Lanes<false>{int(size - rows * LANES)}, rows * LANES);
}

}  // extern "C"
