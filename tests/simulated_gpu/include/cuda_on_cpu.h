// CUDA's words for the C++ compiler of the host, and what runs a kernel's threads one after the other.
//
// A kernel that never waits is a loop over its threads. In one that waits at __syncthreads(), each thread of a block is
// a fiber, with a stack of its own: it runs to the barrier and hands over to the next. Threads and blocks run in orders
// that change, so that what relies on one order is seen to be wrong.
//
// No header of the standard library's mathematics is used: what it declares beside takes longest to compile.
#pragma once
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

#define __global__ __attribute__((used))
#define __device__
#define __host__
#define __shared__ static
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
};
typedef dim3 uint3;
static dim3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

// ---------------------------------------------------------------------------------------------------------------------
// Mathematics: for float and double, as CUDA overloads it
// ---------------------------------------------------------------------------------------------------------------------

#define SIMULATED_UNARY(name)                                        \
  extern "C" double name(double);                                    \
  inline float name##f(float x) { return __builtin_##name##f(x); }   \
  inline float name(float x) { return __builtin_##name##f(x); }
#define SIMULATED_BINARY(name)                                                  \
  extern "C" double name(double, double);                                       \
  inline float name##f(float x, float y) { return __builtin_##name##f(x, y); }  \
  inline float name(float x, float y) { return __builtin_##name##f(x, y); }
SIMULATED_UNARY(exp) SIMULATED_UNARY(exp2) SIMULATED_UNARY(expm1) SIMULATED_UNARY(log) SIMULATED_UNARY(log2)
SIMULATED_UNARY(log10) SIMULATED_UNARY(log1p) SIMULATED_UNARY(sqrt) SIMULATED_UNARY(cbrt) SIMULATED_UNARY(sin)
SIMULATED_UNARY(cos) SIMULATED_UNARY(tan) SIMULATED_UNARY(asin) SIMULATED_UNARY(acos) SIMULATED_UNARY(atan)
SIMULATED_UNARY(sinh) SIMULATED_UNARY(cosh) SIMULATED_UNARY(tanh) SIMULATED_UNARY(asinh) SIMULATED_UNARY(acosh)
SIMULATED_UNARY(atanh) SIMULATED_UNARY(erf) SIMULATED_UNARY(erfc) SIMULATED_UNARY(tgamma) SIMULATED_UNARY(lgamma)
SIMULATED_UNARY(floor) SIMULATED_UNARY(ceil) SIMULATED_UNARY(trunc) SIMULATED_UNARY(round) SIMULATED_UNARY(rint)
SIMULATED_UNARY(fabs)
SIMULATED_BINARY(pow) SIMULATED_BINARY(atan2) SIMULATED_BINARY(fmod) SIMULATED_BINARY(fmin) SIMULATED_BINARY(fmax)
SIMULATED_BINARY(copysign) SIMULATED_BINARY(hypot)
#undef SIMULATED_UNARY
#undef SIMULATED_BINARY

inline float pow(float x, int y) { return __builtin_powf(x, y); }
inline double pow(double x, int y) { return __builtin_pow(x, y); }
inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
inline float rsqrtf(float x) { return rsqrt(x); }
inline double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
inline float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline float fmaf(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline double fma(double x, double y, double z) { return __builtin_fma(x, y, z); }
inline int abs(int x) { return x < 0 ? -x : x; }
inline long long abs(long long x) { return x < 0 ? -x : x; }
inline float abs(float x) { return __builtin_fabsf(x); }
inline double abs(double x) { return __builtin_fabs(x); }
inline bool isnan(float x) { return x != x; }
inline bool isnan(double x) { return x != x; }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isinf(double x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
inline bool isfinite(double x) { return __builtin_isfinite(x); }
inline bool signbit(float x) { return __builtin_signbit(x); }
inline bool signbit(double x) { return __builtin_signbit(x); }

#define SIMULATED_ORDER(type, least, greatest)                        \
  inline type min(type x, type y) { return least; }                   \
  inline type max(type x, type y) { return greatest; }
SIMULATED_ORDER(int, x < y ? x : y, x > y ? x : y)
SIMULATED_ORDER(unsigned, x < y ? x : y, x > y ? x : y)
SIMULATED_ORDER(long, x < y ? x : y, x > y ? x : y)
SIMULATED_ORDER(unsigned long, x < y ? x : y, x > y ? x : y)
SIMULATED_ORDER(long long, x < y ? x : y, x > y ? x : y)
SIMULATED_ORDER(unsigned long long, x < y ? x : y, x > y ? x : y)
SIMULATED_ORDER(float, __builtin_fminf(x, y), __builtin_fmaxf(x, y))
SIMULATED_ORDER(double, __builtin_fmin(x, y), __builtin_fmax(x, y))
#undef SIMULATED_ORDER

template <class To, class From>
inline To simulated_bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "types of one size");
  To y;
  __builtin_memcpy(&y, &x, sizeof y);
  return y;
}
inline int __float_as_int(float x) { return simulated_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return simulated_bits<unsigned>(x); }
inline float __int_as_float(int x) { return simulated_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return simulated_bits<float>(x); }
inline long long __double_as_longlong(double x) { return simulated_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return simulated_bits<double>(x); }

template <class T>
inline T __ldg(const T* x) {
  return *x;
}

// ---------------------------------------------------------------------------------------------------------------------
// Fibers
// ---------------------------------------------------------------------------------------------------------------------

namespace simulated {

enum { OK, DIVERGED = 1, NO_STACK = 2, SIGNAL = 1000 };
typedef void (*Body)(void**);

struct Fiber {
  jmp_buf at;
  ucontext_t context;
  char* stack;
  bool begun, finished;
};

static const int MOST = 1024;
static const size_t STACK = 128 * 1024;
static Fiber* fibers[MOST];
static Fiber* running;
static jmp_buf scheduler;
static sigjmp_buf escape;
static Body body;
static void** arguments;

__attribute__((noinline)) static void to_the_scheduler() {
  if (!_setjmp(running->at)) _longjmp(scheduler, 1);
}

static void live() {  // what a fiber does: the kernel's body, once a block
  for (;;) {
    body(arguments);
    running->finished = true;
    to_the_scheduler();
  }
}

__attribute__((noinline)) static void resume(Fiber* fiber) {
  running = fiber;
  if (_setjmp(scheduler)) return;
  if (fiber->begun) _longjmp(fiber->at, 1);
  fiber->begun = true;
  setcontext(&fiber->context);
}

static bool prepare(int count) {
  for (int i = 0; i < count; ++i) {
    if (!fibers[i]) fibers[i] = (Fiber*)__builtin_calloc(1, sizeof(Fiber));
    Fiber* fiber = fibers[i];
    if (!fiber || (!fiber->stack && !(fiber->stack = (char*)__builtin_malloc(STACK)))) return false;
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK;
    fiber->context.uc_link = 0;
    makecontext(&fiber->context, live, 0);
    fiber->begun = false;
  }
  return true;
}

static void place(unsigned thread) {
  threadIdx.x = thread % blockDim.x;
  threadIdx.y = thread / blockDim.x % blockDim.y;
  threadIdx.z = thread / blockDim.x / blockDim.y;
}

static int run_block_in_fibers(unsigned count, unsigned parity) {
  for (unsigned i = 0; i < count; ++i) fibers[i]->finished = false;
  for (unsigned phase = parity;; ++phase) {
    unsigned waiting = 0;
    for (unsigned k = 0; k < count; ++k) {
      unsigned i = phase % 2 ? count - 1 - k : k;
      place(i);
      resume(fibers[i]);
      waiting += !fibers[i]->finished;
    }
    if (!waiting) return OK;
    if (waiting < count) return DIVERGED;
  }
}

static void run_block(unsigned count, unsigned parity) {
  for (unsigned k = 0; k < count; ++k) {
    place(parity % 2 ? count - 1 - k : k);
    body(arguments);
  }
}

static int run_grid(bool waits) {
  unsigned count = blockDim.x * blockDim.y * blockDim.z;
  if (waits && !prepare(count)) return NO_STACK;
  size_t blocks = (size_t)gridDim.x * gridDim.y * gridDim.z;
  for (size_t b = blocks; b-- > 0;) {
    blockIdx.x = b % gridDim.x;
    blockIdx.y = b / gridDim.x % gridDim.y;
    blockIdx.z = b / gridDim.x / gridDim.y;
    if (!waits) run_block(count, b);
    else if (int error = run_block_in_fibers(count, b)) return error;
  }
  return OK;
}

static void caught(int signal) { siglongjmp(escape, signal); }

// Do `work`; a signal that it provokes is returned, in place of the end of the process.
template <class Work>
static int guarded(Work work) {
  static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
  struct sigaction before[4], now;
  __builtin_memset(&now, 0, sizeof now);
  now.sa_handler = caught;
  for (int i = 0; i < 4; ++i) sigaction(signals[i], &now, &before[i]);
  int signal = sigsetjmp(escape, 1);
  int error = signal ? SIGNAL + signal : work();
  for (int i = 0; i < 4; ++i) sigaction(signals[i], &before[i], 0);
  return error;
}

static int launch(Body kernel, void** args, const unsigned* sizes, bool waits) {
  gridDim = {sizes[0], sizes[1], sizes[2]};
  blockDim = {sizes[3], sizes[4], sizes[5]};
  body = kernel;
  arguments = args;
  return guarded([=] { return run_grid(waits); });
}

// ---------------------------------------------------------------------------------------------------------------------
// A kernel's arguments: each parameter is read from the address that its place names, and described by its type
// ---------------------------------------------------------------------------------------------------------------------

template <size_t... I> struct Places {};
template <size_t N, size_t... I> struct Count : Count<N - 1, N - 1, I...> {};
template <size_t... I> struct Count<0, I...> { typedef Places<I...> type; };

template <class T> struct Plain { typedef T type; };
template <class T> struct Plain<const T> { typedef T type; };
template <class T> struct Plain<T&> { typedef T type; };
template <class T> struct Plain<const T&> { typedef T type; };

template <class T> struct Kind { static const int value = 's'; };  // a struct
#define SIMULATED_KIND(T, letter) template <> struct Kind<T> { static const int value = letter; };
SIMULATED_KIND(void, 'v') SIMULATED_KIND(bool, 'b') SIMULATED_KIND(char, 'c') SIMULATED_KIND(float, 'f')
SIMULATED_KIND(double, 'f') SIMULATED_KIND(signed char, 'i') SIMULATED_KIND(short, 'i') SIMULATED_KIND(int, 'i')
SIMULATED_KIND(long, 'i') SIMULATED_KIND(long long, 'i') SIMULATED_KIND(unsigned char, 'i')
SIMULATED_KIND(unsigned short, 'i') SIMULATED_KIND(unsigned, 'i') SIMULATED_KIND(unsigned long, 'i')
SIMULATED_KIND(unsigned long long, 'i')
#undef SIMULATED_KIND

template <class T> struct Size { static const int value = sizeof(T); };
template <> struct Size<void> { static const int value = 1; };

template <class T> struct Describe {
  static void to(int* about) {
    about[0] = 0, about[1] = Kind<T>::value, about[2] = Size<T>::value;
  }
};
template <class T> struct Describe<T*> {
  static void to(int* about) {
    about[0] = 1, about[1] = Kind<typename Plain<T>::type>::value, about[2] = Size<typename Plain<T>::type>::value;
  }
};

template <class... P, size_t... I>
inline void call(void (*kernel)(P...), void** args, Places<I...>) {
  kernel(*(typename Plain<P>::type*)args[I]...);
}
template <class... P>
inline void call(void (*kernel)(P...), void** args) {
  call(kernel, args, typename Count<sizeof...(P)>::type());
}
template <class... P>
static int describe(void (*)(P...), int* about) {
  int i = 0;
  int unused[] = {0, (Describe<typename Plain<P>::type>::to(about + 3 * i++), 0)...};
  (void)unused;
  return sizeof...(P);
}

}  // namespace simulated

__attribute__((noinline)) static void __syncthreads() { simulated::to_the_scheduler(); }

#define SIMULATED_KERNEL(label, waits, ...)                                               \
  static void simulated_body_##label(void** args) { simulated::call(__VA_ARGS__, args); } \
  extern "C" int simulated_launch_##label(void** args, const unsigned* sizes) {           \
    return simulated::launch(simulated_body_##label, args, sizes, waits);                 \
  }                                                                                       \
  extern "C" int simulated_describe_##label(int* about) { return simulated::describe(__VA_ARGS__, about); }
