// bfloat16 as a kernel sees it: the upper half of a float, rounded to the nearest, ties to even.
#pragma once

class bfloat16 {
  unsigned short data_;

  static unsigned short rounded(float v) {
    unsigned x = simulated_bits<unsigned>(v);
    if (v != v) return x >> 16 | 0x40u;
    return (x + 0x7fffu + (x >> 16 & 1u)) >> 16;
  }

 public:
  bfloat16() : data_(0) {}
  bfloat16(float v) : data_(rounded(v)) {}
  explicit bfloat16(bool v) : data_(rounded(float(v))) {}
  explicit bfloat16(double v) : data_(rounded(float(v))) {}
  explicit bfloat16(int v) : data_(rounded(float(v))) {}
  explicit bfloat16(unsigned v) : data_(rounded(float(v))) {}
  explicit bfloat16(long long v) : data_(rounded(float(v))) {}
  explicit bfloat16(unsigned long long v) : data_(rounded(float(v))) {}

  operator float() const { return simulated_bits<float>((unsigned)data_ << 16); }
};
