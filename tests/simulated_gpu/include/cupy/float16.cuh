// float16 as a kernel sees it: converted to float, and from numbers, rounded to the nearest, ties to even.
#pragma once

class float16 {
  unsigned short data_;

  static unsigned short rounded(float v) {
    unsigned x = simulated_bits<unsigned>(v), sign = x >> 16 & 0x8000u;
    x &= 0x7fffffffu;
    if (x > 0x7f800000u) return sign | 0x7e00u;
    if (x >= 0x47800000u) return sign | 0x7c00u;  // 65536 and more
    if (x < 0x38800000u)  // below 2^-14: 0.5f + v has as many digits behind the point as such a float16
      return sign | (simulated_bits<unsigned>(simulated_bits<float>(x) + 0.5f) - 0x3f000000u);
    return sign | ((x + 0xfffu + (x >> 13 & 1u)) >> 13) - 0x1c000u;
  }

 public:
  float16() {}
  float16(float v) : data_(rounded(v)) {}
  explicit float16(bool v) : data_(rounded(float(v))) {}
  explicit float16(double v) : data_(rounded(float(v))) {}
  explicit float16(int v) : data_(rounded(float(v))) {}
  explicit float16(unsigned v) : data_(rounded(float(v))) {}
  explicit float16(long long v) : data_(rounded(float(v))) {}
  explicit float16(unsigned long long v) : data_(rounded(float(v))) {}

  operator float() const {
    unsigned sign = (data_ & 0x8000u) << 16, x = data_ & 0x7fffu;
    if (x >= 0x7c00u) return simulated_bits<float>(sign | 0x7f800000u | (x & 0x3ffu) << 13);
    if (x >= 0x400u) return simulated_bits<float>(sign | (x << 13) + 0x38000000u);
    float small = float(x) * 5.9604644775390625e-8f;  // 2^-24
    return sign ? -small : small;
  }
};
