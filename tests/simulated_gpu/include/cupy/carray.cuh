// What kernels use of CuPy's header of this name: float16, and arrays with strides for elementwise kernels.
#pragma once
#include "cupy/float16.cuh"

class CIndexer {
 public:
  ptrdiff_t size_, index_[32];
  ptrdiff_t size() const { return size_; }
  const ptrdiff_t* get() const { return index_; }
};

struct CParameter {  // an argument of an elementwise kernel
  char* data;
  ptrdiff_t ndim, size;
  const ptrdiff_t *shape, *strides;

  char* at(const CIndexer& index) const {
    char* place = data;
    for (ptrdiff_t axis = 0; axis < ndim; ++axis) place += index.index_[axis] * strides[axis];
    return place;
  }
};

template <class Element>
class CArray {
  CParameter about_;

 public:
  explicit CArray(const CParameter& about) : about_(about) {}

  ptrdiff_t size() const { return about_.size; }
  const ptrdiff_t* shape() const { return about_.shape; }
  const ptrdiff_t* strides() const { return about_.strides; }

  Element& operator[](ptrdiff_t i) const {  // the i-th element in C order
    char* place = about_.data;
    ptrdiff_t axis = about_.ndim - 1;
    for (; axis > 0; i /= about_.shape[axis--]) place += i % about_.shape[axis] * about_.strides[axis];
    return *(Element*)(axis < 0 ? place : place + i * about_.strides[0]);  // beyond the end where i is
  }
  template <class Int, size_t N>
  Element& operator[](const Int (&index)[N]) const {
    char* place = about_.data;
    for (size_t axis = 0; axis < N; ++axis) place += index[axis] * about_.strides[axis];
    return *(Element*)place;
  }
};
