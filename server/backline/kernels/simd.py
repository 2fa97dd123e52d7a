"""Sixteen float32 lanes as one value in Numba functions, for loops whose arithmetic must not depend on the machine.

A loop left to the compiler's vectoriser sums in an order that changes with the width of the registers. With explicit
lanes every sum is spelled out: results are equal on every processor, in every batch and in every block size, and hot
loops come out as the plain multiply-adds that they are. Narrower processors run each operation in two or four parts.

Offsets count elements of flat arrays and are not checked: the caller owns the arithmetic.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core.typing import signature
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model
from numpy.typing import NDArray

LANES = 16
BLOCK = 2 * LANES  # elements that `load_pair` reads
CACHE_LINE = 64  # bytes

FLOAT = ir.FloatType()
INT32 = ir.IntType(32)
FLOATS = ir.VectorType(FLOAT, LANES)
INTS = ir.VectorType(INT32, LANES)


class Lanes(types.Type):
    """The type of sixteen float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = Lanes()
instruction: Any = intrinsic  # its own type describes Numba's side of a call, not ours


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """Held in vector registers, never boxed."""

    def __init__(self, manager: Any, front_end_type: Lanes) -> None:
        super().__init__(manager, front_end_type, FLOATS)


def aligned(size: int, dtype: Any) -> NDArray[Any]:
    """A flat array of zeros that begins on a cache line, so that no load of sixteen lanes touches two."""
    item = np.dtype(dtype).itemsize
    memory = np.zeros(size * item + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size * item].view(dtype)


@instruction
def load(typing: Any, array: Any, offset: Any) -> Any:
    """The sixteen float32 from `offset` on."""

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        return _read(builder, _address(context, builder, call, arguments), FLOATS, 4)

    return lanes(array, types.int64), generate


@instruction
def load_all(typing: Any, array: Any, offset: Any) -> Any:
    """The one float32 at `offset`, in every lane."""

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        return _spread(builder, _read(builder, _address(context, builder, call, arguments), FLOAT, 4))

    return lanes(array, types.int64), generate


@instruction
def load_pair(typing: Any, array: Any, offset: Any) -> Any:
    """The even and the odd ones of the 32 elements from `offset` on, as two values.

    float32, or bfloat16 in uint16: one 32-bit lane then holds both, and widening is a shift and a mask.
    """

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        address = _address(context, builder, call, arguments)
        if array.dtype == types.uint16:
            both = _read(builder, address, INTS, 2)
            even = builder.bitcast(builder.shl(both, ir.Constant(INTS, [16] * LANES)), FLOATS)
            odd = builder.bitcast(builder.and_(both, ir.Constant(INTS, [-65536] * LANES)), FLOATS)
        else:
            both = _read(builder, address, ir.VectorType(FLOAT, BLOCK), 4)
            nothing = ir.Constant(both.type, ir.Undefined)
            even, odd = (
                builder.shuffle_vector(both, nothing, ir.Constant(INTS, list(range(start, BLOCK, 2))))
                for start in (0, 1)
            )
        return context.make_tuple(builder, call.return_type, (even, odd))

    return types.UniTuple(lanes, 2)(array, types.int64), generate


@instruction
def store(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """Writes sixteen float32 from `offset` on."""

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        address = _address(context, builder, call, arguments)
        builder.store(arguments[2], builder.bitcast(address, FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, lanes), generate


@instruction
def put(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """Writes one float32 at `offset`, rounded to the nearest bfloat16 where the array is uint16."""

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        address, number = _address(context, builder, call, arguments), arguments[2]
        if array.dtype == types.uint16:
            bits = builder.bitcast(number, INT32)
            odd = builder.and_(builder.lshr(bits, INT32(16)), INT32(1))
            bits = builder.add(bits, builder.add(odd, INT32(0x7FFF)))  # ties go to the even one
            number = builder.trunc(builder.lshr(bits, INT32(16)), ir.IntType(16))
        builder.store(number, address)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.float32), generate


@instruction
def splat(typing: Any, value: Any) -> Any:
    """One float32 in every lane."""

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        return _spread(builder, arguments[0])

    return lanes(types.float32), generate


@instruction
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        return _call(builder, "llvm.fma.v16f32", FLOATS, arguments)

    return lanes(lanes, lanes, lanes), generate


@instruction
def larger(typing: Any, a: Any, b: Any) -> Any:
    """Lane by lane the larger one."""

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        a, b = arguments
        return builder.select(builder.fcmp_ordered(">", a, b), a, b)

    return lanes(lanes, lanes), generate


@instruction
def magnitude(typing: Any, a: Any) -> Any:
    """|a|."""

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        return _call(builder, "llvm.fabs.v16f32", FLOATS, arguments)

    return lanes(lanes), generate


@instruction
def nearest(typing: Any, a: Any) -> Any:
    """The nearest whole number, ties to even."""

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        return _call(builder, "llvm.rint.v16f32", FLOATS, arguments)

    return lanes(lanes), generate


@instruction
def power_of_two(typing: Any, exponent: Any) -> Any:
    """2 ** exponent for whole exponents in [-126, 127]."""

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        biased = builder.add(builder.fptosi(arguments[0], INTS), ir.Constant(INTS, [127] * LANES))
        return builder.bitcast(builder.shl(biased, ir.Constant(INTS, [23] * LANES)), FLOATS)

    return lanes(lanes), generate


@instruction
def total(typing: Any, a: Any) -> Any:
    """The sum of all lanes, by halves: lane i with i + 8, then with i + 4, i + 2, i + 1."""

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        return _halve(builder, arguments[0], builder.fadd)

    return types.float32(lanes), generate


@instruction
def largest(typing: Any, a: Any) -> Any:
    """The largest lane."""

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        return _halve(builder, arguments[0], lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))

    return types.float32(lanes), generate


def _register(symbol: Any, instruction: str) -> None:
    """Teaches Numba `a symbol b` for two values of lanes."""
    infer_global(symbol)(type(f"Lanes_{instruction}", (ConcreteTemplate,), {"cases": [signature(lanes, lanes, lanes)]}))

    @lower_builtin(symbol, Lanes, Lanes)
    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)


_register(operator.add, "fadd")
_register(operator.sub, "fsub")
_register(operator.mul, "fmul")
_register(operator.truediv, "fdiv")

LOWEST_EXPONENT = np.float32(-87.0)  # exp of it is the smallest normal number, nearly
LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH = np.float32(-0.693359375)  # exact in few bits, so that its multiples are, too
LN2_LOW = np.float32(2.12194440e-4)
ONE, HALF, ZERO = np.float32(1), np.float32(0.5), np.float32(0)


@njit(forceinline=True)
def exp(x: Any) -> Any:
    """e ** x for x <= 88, relative error under 2e-7; what lies below -87 counts as -87.

    The range is reduced to |r| <= ln(2) / 2, where the Taylor polynomial of degree 7 is exact to 1e-8.
    """
    x = larger(x, splat(LOWEST_EXPONENT))
    exponent = nearest(x * splat(LOG2_E))
    r = fma(exponent, splat(LN2_LOW), fma(exponent, splat(LN2_HIGH), x))
    p = splat(np.float32(1 / 5040))
    p = fma(p, r, splat(np.float32(1 / 720)))
    p = fma(p, r, splat(np.float32(1 / 120)))
    p = fma(p, r, splat(np.float32(1 / 24)))
    p = fma(p, r, splat(np.float32(1 / 6)))
    p = fma(p, r, splat(HALF))
    p = fma(p, r, splat(ONE))
    p = fma(p, r, splat(ONE))
    return p * power_of_two(exponent)


@njit(forceinline=True)
def gelu(x: Any) -> Any:
    """x * Phi(x) with the normal distribution function Phi itself (no tanh), absolute error under 4e-7 * max(1, |x|).

    Phi(-|x|) = erfc(|x| / sqrt 2) / 2 by the rational approximation 7.1.26 of Abramowitz and Stegun.
    """
    a = magnitude(x)
    t = splat(ONE) / fma(a, splat(np.float32(0.3275911 * 0.7071067811865476)), splat(ONE))
    p = splat(np.float32(1.061405429))
    p = fma(p, t, splat(np.float32(-1.453152027)))
    p = fma(p, t, splat(np.float32(1.421413741)))
    p = fma(p, t, splat(np.float32(-0.284496736)))
    p = fma(p, t, splat(np.float32(0.254829592)))
    tail = splat(HALF) * p * t * exp(splat(np.float32(-0.5)) * a * a)
    return fma(splat(ZERO) - a, tail, larger(x, splat(ZERO)))  # x - |x| tail where positive, -|x| tail elsewhere


def _address(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
    array = context.make_array(call.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]], inbounds=True)


def _read(builder: Any, address: Any, kind: Any, align: int) -> Any:
    return builder.load(builder.bitcast(address, kind.as_pointer()), align=align, typ=kind)


def _spread(builder: Any, scalar: Any) -> Any:
    nothing = ir.Constant(FLOATS, ir.Undefined)
    first = builder.insert_element(nothing, scalar, INT32(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(INTS, [0] * LANES))


def _halve(builder: Any, vector: Any, combine: Any) -> Any:
    width = LANES // 2
    while width >= 1:
        index = ir.VectorType(INT32, width)
        nothing = ir.Constant(vector.type, ir.Undefined)
        low = builder.shuffle_vector(vector, nothing, ir.Constant(index, list(range(width))))
        high = builder.shuffle_vector(vector, nothing, ir.Constant(index, list(range(width, 2 * width))))
        vector = combine(low, high)
        width //= 2
    return builder.extract_element(vector, INT32(0))


def _call(builder: Any, name: str, result: Any, arguments: Any) -> Any:
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
    return builder.call(function, arguments)
