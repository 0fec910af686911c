#pragma once
// The element types that the kernels and the engine are compiled for. Every source instantiates its templates by these
// lists, so that a type is added in one place. A build whose tests do not need a type leaves it out and compiles
// sooner: -DKILN_WITHOUT_FLOAT32, _BFLOAT16, _FLOAT16.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#ifdef KILN_WITHOUT_FLOAT32
#define KILN_IF_FLOAT32(...)
#else
#define KILN_IF_FLOAT32(...) __VA_ARGS__
#endif
#ifdef KILN_WITHOUT_BFLOAT16
#define KILN_IF_BFLOAT16(...)
#else
#define KILN_IF_BFLOAT16(...) __VA_ARGS__
#endif
#ifdef KILN_WITHOUT_FLOAT16
#define KILN_IF_FLOAT16(...)
#else
#define KILN_IF_FLOAT16(...) __VA_ARGS__
#endif

// M(E) for each type of weights and activations.
#define KILN_FOR_16_BIT_TYPES(M) KILN_IF_BFLOAT16(M(__nv_bfloat16)) KILN_IF_FLOAT16(M(__half))
#define KILN_FOR_TYPES(M) KILN_IF_FLOAT32(M(float)) KILN_FOR_16_BIT_TYPES(M)
// M(E, G) for each of these with each type of gradients that it can have: float, and E itself.
#define KILN_FOR_16_BIT_GRADIENT_TYPES(M)                                     \
    KILN_IF_BFLOAT16(M(__nv_bfloat16, float) M(__nv_bfloat16, __nv_bfloat16)) \
    KILN_IF_FLOAT16(M(__half, float) M(__half, __half))
#define KILN_FOR_GRADIENT_TYPES(M) KILN_IF_FLOAT32(M(float, float)) KILN_FOR_16_BIT_GRADIENT_TYPES(M)
